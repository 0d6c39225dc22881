"""Positions of devices over time from CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from mecsim.errors import ScenarioError
from mecsim.scenario import groups
from mecsim.scenario.section import Pair
from mecsim.scenario.time_series import Table, read_table
from mecsim.support.arrays import Floats, Ints
from mecsim.support.portable_math import cos_sin

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius of the earth."""
_RADIANS: Final = 0.017453292519943295
_FORMS: Final = "allowed: columns 'x (m)' and 'y (m)', or 'latitude' and 'longitude'"


class Positions(NamedTuple):
    """K recorded positions, sorted by device and time."""

    device: Ints
    """Shape (K,)."""
    time_s: Floats
    """Increasing for each device; shape (K,)."""
    xy: Floats
    """In metres; shape (K, 2)."""
    line: Ints
    """Line of the file, or number of the point from 0; shape (K,)."""


def read_positions(
    path: Path, devices: groups.Nodes, origin: Pair[float] | None = None
) -> Positions:
    """Read positions: a column of times, ``device``, and x and y or latitude and longitude.

    Args:
        path: The file.
        devices: The devices of the scenario; a cell has a number from 0 or a name.
        origin: Latitude and longitude of the point [0, 0]; needed for a file that has these.

    Raises:
        ScenarioError: With file, line and value.
    """
    table = read_table(path)
    times, column = table.time_column(), table.column("device")
    time_s = table.numbers(times, "s")
    device = _devices(table, column, devices)
    xy, order = _places(table, origin), np.argsort(device, kind="stable")
    back = (np.diff(device[order]) == 0) & (np.diff(time_s[order]) <= 0)
    if back.any():
        row = int(order[1:][back].min())
        name = table.rows[row][column].strip()
        raise table.fault(row, times, f"allowed: later than the row before of device {name}")
    return Positions(device[order], time_s[order], xy[order], np.array(table.lines)[order])


def _devices(table: Table, column: int, devices: groups.Nodes) -> Ints:
    found, known = np.empty(len(table.rows), dtype=np.int64), dict[str, int]()
    for row, cells in enumerate(table.rows):
        cell = cells[column].strip()
        if cell not in known:
            known[cell] = _device(table, row, column, cell, devices)
        found[row] = known[cell]
    return found


def _device(table: Table, row: int, column: int, cell: str, devices: groups.Nodes) -> int:
    count = groups.count(devices)
    numbers = range(count)
    if cell.isascii() and cell.isdecimal():
        if len(cell) > 9 or int(cell) >= count:
            raise table.fault(row, column, f"allowed: 0 to {count - 1}")
        return int(cell)
    try:
        numbers = groups.numbers(devices, cell)
    except ValueError as error:
        raise table.fault(row, column, f"is no device: {error}") from error
    if len(numbers) > 1:
        raise table.fault(row, column, f"is a group; allowed: {cell}.1 to {cell}.{len(numbers)}")
    return numbers[0]


def _places(table: Table, origin: Pair[float] | None) -> Floats:
    """Return positions in metres; shape (K, 2)."""
    heads = {name.strip().lower().partition(" ")[0] for name in table.header}
    if not {"latitude", "longitude"} <= heads:
        if not any(head == "x" or head.startswith("x_") for head in heads):
            raise ScenarioError(f"{table.path}:1: has no positions; {_FORMS}")
        if origin is not None:
            raise ScenarioError(f"{table.path}:1: has x and y, so origin has no effect; leave it")
        return np.stack(
            [table.numbers(table.column(name), "m", least=None) for name in ("x", "y")], axis=1
        )
    if origin is None:
        raise ScenarioError(
            f"{table.path}:1: has latitudes and longitudes; allowed with origin: "
            "[latitude, longitude] of the point [0, 0]"
        )
    north, east = (
        table.plain(table.column(name), -most, most)
        for name, most in (("latitude", 90.0), ("longitude", 180.0))
    )
    metres = EARTH_RADIUS_M * _RADIANS  # a degree of latitude
    shrink = cos_sin(origin[0] / 360.0)[0]
    return np.stack([(east - origin[1]) * (metres * shrink), (north - origin[0]) * metres], axis=1)
