"""Tests of schedulers.rl."""
