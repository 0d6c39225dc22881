"""What users run to trust the simulator: known answers and scheduler conformance."""
