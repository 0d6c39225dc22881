"""Scenarios: what a person writes, validated. Start with :func:`load`."""

from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario

__all__ = ["Scenario", "load"]
