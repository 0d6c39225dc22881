"""The machinery of the learning schedulers."""
