"""Mobility: devices that walk between random waypoints, or along recorded positions."""

from __future__ import annotations

from typing import Annotated, Final, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from mecsim.scenario.failures import Nodes
from mecsim.scenario.network import Position
from mecsim.scenario.section import Pair, Section, fault, ordered
from mecsim.scenario.units import (
    Coordinate,
    MetresPerSecond,
    NonNegative,
    NonNegativeSeconds,
)
from mecsim.support.validation import Whole, Within

Point: TypeAlias = tuple[
    NonNegativeSeconds, Annotated[int, Within(0), Whole], Coordinate, Coordinate
]

_WAYS: Final = ("speed", "positions", "points")
_OF_WAYPOINTS: Final = ("devices", "pause", "area")


class Movement(Section):
    """How some devices move: between random waypoints, or along recorded positions."""

    devices: Nodes | None = None
    """The devices that walk between random waypoints: a list of numbers from 0 or names, or
    ``all``, as by default. Recorded positions say themselves which devices move."""
    speed: Pair[MetresPerSecond] | None = None
    """Lowest and highest speed in m/s of a walk between random waypoints. Each leg has its own
    speed, drawn uniformly."""
    pause: Pair[NonNegativeSeconds] | None = None
    """Shortest and longest pause in s at a waypoint, drawn uniformly; none by default."""
    area: Pair[Position] | None = None
    """Two opposite corners [x, y] in m, the lower ones first, of the rectangle in which waypoints
    are drawn uniformly. Devices start in it, too. Servers must cover all of it."""
    positions: str | None = None
    """A CSV file of recorded positions: columns of times, of devices, and of x and y or of latitude
    and longitude. Devices go straight from row to row, and stay at their last position."""
    origin: Pair[Annotated[float, Within(-180, 180)]] | None = None
    """Latitude and longitude in degrees of the point [0, 0]; needed for a file that has these."""
    points: Annotated[tuple[Point, ...], Field(min_length=1)] | None = None
    """Recorded positions written out: time in s, number of the device from 0, x and y in m."""
    hysteresis_db: Annotated[NonNegative, Within(0, 100)] = 3.0
    """By how many dB the path gain of another server must be higher before a device changes to it.
    A device changes at once when its server does not cover it any more."""
    handover: NonNegativeSeconds = 0.0
    """Time in s that a change takes: the radio of the device is down meanwhile, and what it sends
    or receives continues afterwards."""

    @field_validator("speed", "pause", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float] | None) -> Pair[float] | None:
        return value and ordered(value)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given = [key for key in _WAYS if getattr(self, key) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "does not say how devices move"
            raise ValueError(f"{found}; allowed: one of {', '.join(_WAYS)}")
        (way,) = given
        idle = ("origin",) if way == "speed" else _OF_WAYPOINTS
        for key in (*idle, *(("origin",) if way == "points" else ())):
            if getattr(self, key) is not None:
                raise fault((key,), f"has no effect next to {way}; leave one of them out")
        if way == "speed":
            self._check_area(self.area)
        if self.origin is not None and abs(self.origin[0]) > 90:
            raise fault(("origin",), "has its latitude first; allowed: -90 to 90 degrees")
        return self

    @staticmethod
    def _check_area(area: Pair[Position] | None) -> None:
        if area is None:
            raise fault(("area",), "is missing; speed needs it: [[x0, y0], [x1, y1]]")
        (left, lower), (right, upper) = area
        if not (left < right and lower < upper):
            raise fault(("area",), "should have its lower corner first, and a width and a height")
