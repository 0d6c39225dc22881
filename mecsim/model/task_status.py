"""How tasks end: the values of the column ``status`` of a trace."""

from __future__ import annotations

from typing import Final

COMPLETED: Final = 0
BATTERY_SPENT: Final = 1
LOST: Final = 2
DROPPED: Final = 3

CAUSES: Final = {BATTERY_SPENT: "battery spent", LOST: "outage", DROPPED: "dropped late"}
"""Why tasks fail, by their status."""
