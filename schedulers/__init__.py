"""The shipped schedulers, one a file; :mod:`schedulers.rl` holds the machinery of the learners."""
