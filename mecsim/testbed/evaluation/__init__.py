"""Evaluation of the simulator against the testbed: predictions of measured runs, rankings."""
