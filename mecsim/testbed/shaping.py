"""How the kernel's token buckets (`tbf`) shape the links of a testbed.

A bucket fills at the rate of its link and a packet leaves when the bucket holds its length. Two
facts of it matter here:

- A bucket loses what comes in while it is full. A timer empties it, so it must hold what comes in
  while the timer is late, or the link is slower than its rate. At 100 Mbit/s and a load of 2 to 3
  processes a core, a bucket for 0.1 ms (1,600 bytes) was 3% too slow, one for 1 ms up to 1.4%, and
  one for 2 ms 0.0%. The usual tick of a kernel is 4 ms.
- What came in while the link was idle leaves at once. The first transfer after a pause would be
  faster than the link: by 9% for 16 kB with a bucket of 1,600 bytes. So the sender first sends as
  many bytes of filling, see `filling_bytes`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

PACKET_BYTES: Final = 1600
"""Least size of a bucket: a packet of 1,514 bytes must fit, or it would never leave."""
MOST_BYTES: Final = 2**24
LATE_S: Final = 4e-3
"""How late a timer of the kernel may be on a busy machine without making a link slower."""
_TIMERS: Final = Path("/proc/net/psched")


class ShapedLink(NamedTuple):
    """A directed link between two nodes."""

    source: str
    target: str
    bytes_per_s: float
    """Rate in bytes with headers per real second."""


def bucket_bytes(bytes_per_s: float) -> int:
    """Return the size of the bucket for a rate in bytes per second.

    Example:
        >>> bucket_bytes(1e6 / 8), bucket_bytes(100e6 / 8)
        (1600, 50000)
    """
    needed = math.ceil(bytes_per_s * max(LATE_S, _timer_s()))
    return min(max(PACKET_BYTES, needed), MOST_BYTES)


def _timer_s() -> float:
    """Return the resolution of the timers that empty buckets: fine, or a tick of the kernel."""
    try:
        fields = _TIMERS.read_text("ascii").split()
        return 1 / int(fields[3], 16)
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return 0.0


def filling_bytes(bytes_per_s: float, idle_s: float) -> int:
    """Return how many bytes, with headers, leave at once after a link was idle.

    Args:
        bytes_per_s: Rate of the link with headers.
        idle_s: Time since its last transfer ended, in real seconds; may be infinite.

    Example:
        >>> filling_bytes(125_000, 0.001), filling_bytes(125_000, 60.0)
        (125, 1600)
    """
    return int(min(bytes_per_s * max(idle_s, 0.0), bucket_bytes(bytes_per_s)))
