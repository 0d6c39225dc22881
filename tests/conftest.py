"""What holds for all tests."""

from __future__ import annotations

import os
import signal

from mecsim.support import jit

os.environ[jit.TOLD] = "1"  # what commands print does not depend on what is compiled already
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell lets us ignore it
