"""Validation that users can run: known answers, and the conformance of schedulers."""
