"""Tests of mecsim.scheduler.base and of the heuristics."""
