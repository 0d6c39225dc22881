"""Tests of mecsim.learning.interface and mecsim.env."""
