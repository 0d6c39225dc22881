"""Tests of mecsim.trace.schema."""
