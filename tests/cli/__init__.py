"""Tests of mecsim.cli."""
