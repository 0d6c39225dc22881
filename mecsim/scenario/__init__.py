"""Scenarios: what a person writes, validated."""

from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario

__all__ = ["Scenario", "load"]
