"""Tests of mecsim.simulation."""
