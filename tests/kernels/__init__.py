"""Tests of mecsim.kernels."""
