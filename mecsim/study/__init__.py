"""Comparisons: jobs, batches, statistics, reports."""
