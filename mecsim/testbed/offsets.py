"""Clocks of other machines: their offsets from the controller's clock, measured by pings.

A ping is read at some time between its start and the return of its answer. The middle of both is
the best guess, and half the round trip its largest error (Cristian's algorithm).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Measurement(NamedTuple):
    """An offset at a time."""

    at: float
    """Reading of the controller's clock in s."""
    offset_s: float
    """Reading of the other clock less that of the controller."""
    error_s: float
    """Largest error of the offset."""


def measurement(sent_at: float, received_at: float, back_at: float) -> Measurement:
    """Return the offset that a ping shows.

    Args:
        sent_at: When it was sent, on the controller's clock.
        received_at: When it was read, on the other clock.
        back_at: When its answer was read, on the controller's clock.

    Example:
        >>> measurement(10.0, 110.25, 10.5)
        Measurement(at=10.25, offset_s=100.0, error_s=0.25)
    """
    middle_at = sent_at + (back_at - sent_at) / 2.0
    return Measurement(middle_at, received_at - middle_at, (back_at - sent_at) / 2.0)


def best(found: Sequence[Measurement]) -> Measurement:
    """Return the measurement with the least round trip. There must be one."""
    return min(found, key=lambda each: each.error_s)


class Offset:
    """The offset of a clock over time: a line through the first and the latest measurement."""

    def __init__(self, first: Measurement) -> None:
        self.first = self.latest = first

    def update(self, latest: Measurement) -> None:
        """Take a later measurement."""
        self.latest = latest

    @property
    def drift(self) -> float:
        """Seconds that the other clock gains in a second of the controller's."""
        elapsed_s = self.latest.at - self.first.at
        return (self.latest.offset_s - self.first.offset_s) / elapsed_s if elapsed_s > 0 else 0.0

    def there(self, at: float) -> float:
        """Return the reading of the other clock at a reading of the controller's."""
        return at + self.first.offset_s + self.drift * (at - self.first.at)

    def here(self, at: float) -> float:
        """Return the reading of the controller's clock at a reading of the other clock."""
        first = self.first
        return first.at + (at - first.at - first.offset_s) / (1.0 + self.drift)

    def facts(self) -> dict[str, Any]:
        """Return both measurements and the drift, for the trace."""
        facts: dict[str, Any] = {
            "offset_s": self.first.offset_s,
            "error_s": self.first.error_s,
        }
        if self.latest is not self.first:
            facts["after"] = {
                "offset_s": self.latest.offset_s,
                "error_s": self.latest.error_s,
            }
            facts["drift_ppm"] = 1e6 * self.drift
        return facts
