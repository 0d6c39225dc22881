"""Tests of mecsim.verification."""
