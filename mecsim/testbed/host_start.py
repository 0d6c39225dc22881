"""Start of a host process, which dies with its controller already while PyTorch is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Be a host process of the controller whose number is the argument; return the exit code."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # only on Linux
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        return 1
    from mecsim.testbed import host  # noqa: PLC0415 - takes seconds

    return host.main()


if __name__ == "__main__":
    sys.exit(main())
