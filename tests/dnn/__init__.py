"""Tests of mecsim.dnn.graph."""
