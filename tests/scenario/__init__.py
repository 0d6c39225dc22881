"""Tests of mecsim.scenario.schema."""
