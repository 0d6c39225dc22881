"""What holds for all tests."""

from __future__ import annotations

import os

from mecsim import jit

os.environ[jit.TOLD] = "1"  # what commands print does not depend on what is compiled already
