"""Tests of mecsim.support."""
