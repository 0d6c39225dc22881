"""Tests of mecsim.paper."""
