"""A run from start to end: sessions, replicas, replay, totals."""
