"""What holds for all tests."""

from __future__ import annotations

import os
import signal

from mecsim.support import jit

os.environ[jit.COMPILE_NOTICE_SHOWN] = "1"  # commands print the same on a fresh machine
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell lets us ignore it
