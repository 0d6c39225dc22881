"""Tests of mecsim: `make test`."""

import os

ONE_THREAD = "OMP_NUM_THREADS"
SET_HERE = ONE_THREAD not in os.environ
"""Whether the variable is of these tests only, and not of the processes that they start."""

# Read when numpy and PyTorch are imported. Their threads would wait for each other longer than
# they work, and take time from the tests in other processes.
os.environ.setdefault(ONE_THREAD, "1")
