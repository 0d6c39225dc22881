"""Tests of mecsim.study.plan."""
