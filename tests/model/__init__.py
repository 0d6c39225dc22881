"""Tests of mecsim.model.model."""
