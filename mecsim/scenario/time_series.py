"""Numbers over time from files: CSV tables with units in their header, and mahimahi traces."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

import numpy as np

from mecsim.errors import ScenarioError
from mecsim.scenario import units
from mecsim.scenario.units import LARGEST
from mecsim.support.arrays import Floats

MAX_ROWS: Final = 1_000_000
"""Most rows of a file, and most steps of a series."""
PACKET_BITS: Final = 12_000
"""A line of a mahimahi trace is an opportunity to send a packet of 1,500 bytes."""
_TIMES: Final = ("time", "t", "timestamp")
_STAMP: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_UNIT: Final = re.compile(r"(?P<name>.*?)\s*[(\[](?P<unit>[^()\[\]]*)[)\]]")


@dataclass(frozen=True)
class Steps:
    """A piecewise-constant function of time from 0 on, in SI units; P steps."""

    begin_s: Floats
    """Begin of each step, the first 0; shape (P,)."""
    value: Floats
    """At least 0; shape (P,)."""
    period_s: float
    """After which the steps are repeated; infinity if the last value holds for good."""
    nominal: float
    """The mean over the time that the file covers."""


@dataclass(frozen=True)
class Table:
    """A CSV file: its header and its rows as text."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    """Line of each row."""

    def numbers(self, column: int, unit: str, least: float | None = 0.0) -> Floats:
        """Return a column in the SI unit ``unit``, converted from that in its header.

        Raises:
            ScenarioError: The header has no unit of this dimension, or a cell is not a finite
                number from ``least`` on; with file, line and value.
        """
        factor = Decimal(repr(units.parse(f"1 {self._unit(column, unit)}", unit)))
        values = np.empty(len(self.rows))
        for row, cells in enumerate(self.rows):
            values[row] = self._number(row, column, cells[column], factor)
            if least is not None and values[row] < least:
                raise self.fault(row, column, f"allowed: at least {least:g}")
        return values

    def plain_numbers(self, column: int) -> Floats:
        """Return a column of numbers without a unit, 0 or more. Raises ``ScenarioError``."""
        values = np.empty(len(self.rows))
        for row, cells in enumerate(self.rows):
            values[row] = self._number(row, column, cells[column], Decimal(1))
            if values[row] < 0:
                raise self.fault(row, column, "allowed: at least 0")
        return values

    def _number(self, row: int, column: int, cell: str, factor: Decimal) -> float:
        try:
            value = float(Decimal(cell.strip()) * factor)
        except (ArithmeticError, ValueError):
            value = math.nan
        if not abs(value) <= LARGEST:
            raise self.fault(row, column, f"allowed: a finite number, up to {LARGEST:g} in SI")
        return value

    def plain(self, column: int, low: float, high: float) -> Floats:
        """Return a column of numbers without unit.

        Raises:
            ScenarioError: A cell is not a number from ``low`` to ``high``; with file, line and
                value.
        """
        values = np.empty(len(self.rows))
        for row, cells in enumerate(self.rows):
            values[row] = self._number(row, column, cells[column], Decimal(1))
            if not low <= values[row] <= high:
                raise self.fault(row, column, f"allowed: {low:g} to {high:g}")
        return values

    def _unit(self, column: int, unit: str) -> str:
        """Return the unit in a header. Raises ``ScenarioError``."""
        found = unit_of(self.header[column], unit)
        if found is None:
            name, example = _bare(self.header[column]) or "value", units.example(unit).split()[1]
            raise ScenarioError(
                f"{self.path}:1: column {self.header[column]!r} has no unit of the kind {unit}; "
                f"allowed: for example '{name} ({example})'"
            )
        return found

    def times(self, column: int) -> Floats:
        """Return times in s: numbers with a unit, or time stamps, which count from the first row.

        Raises:
            ScenarioError: A cell is neither, or times go back.
        """
        if unit_of(self.header[column], "s") is not None:
            time_s = self.numbers(column, "s")
        else:
            zoned = {row for row, cells in enumerate(self.rows) if _has_zone(cells[column])}
            if 0 < len(zoned) < len(self.rows):
                row = next(
                    row for row in range(1, len(self.rows)) if (row in zoned) != (0 in zoned)
                )
                raise self.fault(row, column, "allowed: a time zone in all rows or in none")
            stamps = [self._stamp(row, column) for row in range(len(self.rows))]
            time_s = np.array([float(stamp - stamps[0]) for stamp in stamps])
        self.check_order(column, time_s)
        return time_s

    def _stamp(self, row: int, column: int) -> Decimal:
        """Return a time stamp in exact seconds."""
        match = _STAMP.fullmatch(self.rows[row][column].strip())
        problem = "allowed: a time stamp as 2023-11-16 18:15:46.68, or a unit in the header"
        if match is None:
            raise self.fault(row, column, problem)
        try:
            moment = datetime.fromisoformat(f"{match['date']}T{match['time']}{match['zone'] or ''}")
        except ValueError:
            raise self.fault(row, column, problem) from None
        whole = moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)
        if moment.tzinfo is not None:
            whole -= moment.utcoffset() or timedelta()
        return whole.days * 86400 + whole.seconds + Decimal(f"0{match['fraction'] or '.0'}")

    def check_order(self, column: int, time_s: Floats, *, strictly: bool = False) -> None:
        """Raise ``ScenarioError`` if times go back, or ``strictly`` if any is repeated."""
        steps_s = np.diff(time_s)
        back = np.flatnonzero(steps_s <= 0 if strictly else steps_s < 0)
        if back.size:
            row = int(back[0]) + 1
            least = "later than" if strictly else "not before"
            before = self.rows[row - 1][column]
            raise self.fault(row, column, f"allowed: {least} that of the row before, {before}")

    def find(self, name: str) -> int | None:
        """Return the number of the column of this bare name in any case of letters, or None."""
        return self._only([n for n, head in enumerate(self.header) if _bare(head).lower() == name])

    def column(self, name: str) -> int:
        """Return the number of the column with a header, with or without its unit."""
        found = self._only([n for n, head in enumerate(self.header) if name == head.strip()])
        if found is None:
            found = self._only([n for n, head in enumerate(self.header) if name == _bare(head)])
        if found is None:
            raise ScenarioError(
                f"{self.path}:1: has no column {name!r}; its columns: {', '.join(self.header)}"
            )
        return found

    def time_column(self) -> int:
        """Return the number of the column of times. Raises ``ScenarioError``."""
        for name in _TIMES:
            found = self.find(name)
            if found is not None:
                return found
        raise ScenarioError(
            f"{self.path}:1: has no column of times; allowed: a column 'time (s)' or 'time_s', "
            f"not only {', '.join(map(repr, self.header))}"
        )

    def _only(self, columns: list[int]) -> int | None:
        """Return the one column, None for none. Raises ``ScenarioError`` if there are several."""
        if len(columns) > 1:
            names = ", ".join(self.header[number].strip() for number in columns)
            raise ScenarioError(
                f"{self.path}:1: has {len(columns)} columns that may be meant: {names}; "
                "allowed: one of each name"
            )
        return columns[0] if columns else None

    def fault(self, row: int, column: int, problem: str) -> ScenarioError:
        """Return the error of a cell."""
        cell = self.rows[row][column]
        return ScenarioError(
            f"{self.path}:{self.lines[row]}: {self.header[column].strip()}: {cell!r}; {problem}"
        )


def read_table(path: Path) -> Table:
    """Read a CSV file with a header.

    Raises:
        ScenarioError: It cannot be read, is empty, or a row has not as many cells as the header.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] | None = None
    for line, cells in _records(path):
        if header is None:
            header = cells
            continue
        if len(cells) != len(header):
            problem = f"has {len(cells)} cells; allowed: {len(header)}, as its header"
            raise ScenarioError(f"{path}:{line}: {problem}")
        if len(rows) == MAX_ROWS:
            raise ScenarioError(f"{path}:{line}: has more than {MAX_ROWS:,} rows")
        rows.append(cells)
        lines.append(line)
    if header is None or not rows:
        problem = "is empty" if header is None else "has a header and no rows"
        raise ScenarioError(f"{path}: {problem}; allowed: a header and at least one row")
    return Table(path, header, rows, lines)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of every row that is not empty."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ScenarioError(f"{path}: cannot be read: is a device or a pipe; allowed: a file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except (OSError, ValueError, csv.Error) as error:
        raise ScenarioError(f"{path}: cannot be read: {_reason(error)}") from error


@contextmanager
def reading(path: str, file: str) -> Iterator[tuple[int, int]]:
    """Yield a stamp of a file, which differs when it has changed; put its key before errors.

    Args:
        path: The key that names the file.
        file: The name of the file.

    Raises:
        ScenarioError: The file cannot be read.
    """
    try:
        stat = Path(file).stat()
        yield stat.st_mtime_ns, stat.st_size
    except (OSError, ValueError) as error:
        raise ScenarioError(
            f"{path}: {file}: cannot be read: {_reason(error)}; "
            "file names are relative to the file that holds them"
        ) from error
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)


def unit_of(head: str, unit: str) -> str | None:
    """Return the unit in the header of a column: ``rate (Mbit/s)`` or ``rate_mbit_s``.

    >>> unit_of("rate (Mbit/s)", "bit/s"), unit_of("rate_mbit_s", "bit/s"), unit_of("rate", "bit/s")
    ('Mbit/s', 'Mbit/s', None)

    Args:
        head: The header.
        unit: The SI unit of its dimension.
    """
    match = _UNIT.fullmatch(head.strip())
    if match is not None:
        try:
            units.parse(f"1 {match['unit'].strip()}", unit)
        except ValueError:
            return None
        return match["unit"].strip()
    parts = head.strip().split("_")
    for first in range(1, len(parts)):
        suffix = "_".join(parts[first:])
        for spelling in units.spellings(unit):
            plain = spelling.replace("/", "_")
            if suffix == plain or ("B" not in spelling and suffix == plain.lower()):
                return spelling
    return None


def _has_zone(cell: str) -> bool:
    match = _STAMP.fullmatch(cell.strip())
    return match is not None and match["zone"] is not None


def _bare(head: str) -> str:
    """Return the header of a column without its unit."""
    match = _UNIT.fullmatch(head.strip())
    if match is not None:
        return match["name"]
    return re.split(r"_(?:s|ms|us|µs|ns|min|h|m|km)$", head.strip())[0]


# ---------------------------------------------------------------- series


def read_series(
    path: Path,
    unit: str,
    *,
    column: str | None = None,
    interpolation: Literal["step", "linear"] = "step",
    resolution_s: float = 0.1,
    end: Literal["hold", "repeat", "error"] = "hold",
    length_s: float = 0.0,
) -> Steps:
    """Read a time series from a CSV file. Times count from its first row.

    Args:
        path: The file: a column of times, and one of values, with their units in the header.
        unit: SI unit of the values.
        column: Header of the column of values; needed if there are several.
        interpolation: ``step``: a value holds until the next row. ``linear``: values between rows
            are interpolated, in equal steps of at most ``resolution_s`` with the value of their
            middle.
        resolution_s: See ``interpolation``.
        end: After the last row: ``hold`` its value, ``repeat`` the whole, or ``error`` if the
            series is shorter than ``length_s``. A step of the last row is as long as that before.
        length_s: Length of the run.

    Raises:
        ScenarioError: With file, line and value.
    """
    table = read_table(path)
    times = table.time_column()
    values = _value_column(table, times, unit, column)
    time_s = table.numbers(times, "s", least=None)
    table.check_order(times, time_s, strictly=True)
    time_s -= time_s[0]
    value = table.numbers(values, unit)
    if len(value) == 1:
        _check_one_row(table, interpolation, end)
    if interpolation == "linear" and len(value) > 1:
        covered_s = float(time_s[-1])
        begin_s, value = _interpolated(path, time_s, value, resolution_s, last=end != "repeat")
    else:
        begin_s, covered_s = time_s, _covered(time_s)
    if end == "error" and covered_s < length_s:
        raise ScenarioError(
            f"{path}:{table.lines[-1]}: the series ends after {covered_s:g} s; allowed with "
            f"end: error: at least {length_s:g} s (slots × slot_length)"
        )
    return steps(begin_s, value, covered_s if end == "repeat" else math.inf, str(path))


def _check_one_row(table: Table, interpolation: str, end: str) -> None:
    """Refuse what one row leaves without effect. Raises ``ScenarioError``."""
    for key, value, default in (("interpolation", interpolation, "step"), ("end", end, "hold")):
        if value != default:
            raise ScenarioError(
                f"{table.path}:{table.lines[0]}: the series has one row, so {key}: {value} has no "
                f"effect; allowed: two rows or more; leave {key} out to hold the value"
            )


def steps(
    begin_s: Floats,
    value: Floats,
    period_s: float,
    where: str,
    nominal: float | None = None,
    repeated_by: str = "end: repeat",
) -> Steps:
    """Return steps that are checked, with their time mean.

    Args:
        begin_s: Begin of each step, the first 0; shape (P,).
        value: Shape (P,).
        period_s: After which the steps repeat, or infinity.
        where: What the messages begin with.
        nominal: The mean where it is given.
        repeated_by: How the scenario makes the steps repeat, for messages.

    Raises:
        ScenarioError: The value is 0 for good, or too small; the message begins with ``where``.
    """
    small = value[(value > 0) & (value < 1 / LARGEST)]
    if small.size:
        raise ScenarioError(f"{where}: has a value of {small[0]:g}; allowed: 0, or 1e-30 at least")
    if len(value) == 1:
        period_s = math.inf
    if not value.any():
        which = "only value" if len(value) == 1 else "value of all steps"
        problem = f"the {which} is 0, so no work would ever end"
        raise ScenarioError(f"{where}: {problem}; allowed: a value above 0")
    if math.isinf(period_s) and not value[-1]:
        raise ScenarioError(
            f"{where}: the last value is 0 and holds for good, so no work would ever end; "
            f"allowed: a last value above 0, or {repeated_by}"
        )
    covered_s = period_s if math.isfinite(period_s) else _covered(begin_s)
    if nominal is None and len(value) == 1:
        nominal = float(value[0])
    if nominal is None:
        lengths = np.diff(np.append(begin_s, max(covered_s, begin_s[-1])))
        total = math.fsum(lengths.tolist())
        weighted = math.fsum((lengths * value).tolist())
        nominal = weighted / total if weighted > 0 else float(value.max())
    return Steps(begin_s, value, period_s, nominal)


def _covered(begin_s: Floats) -> float:
    """Return for how long steps last, the last one as long as the one before."""
    return float(begin_s[-1] + (begin_s[-1] - begin_s[-2])) if len(begin_s) > 1 else math.inf


def _value_column(table: Table, times: int, unit: str, name: str | None) -> int:
    if name is not None:
        return table.column(name)
    others = [number for number in range(len(table.header)) if number != times]
    fitting = [n for n in others if unit_of(table.header[n], unit) is not None] or others
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(table.header[number].strip() for number in fitting) or "none"
    raise ScenarioError(
        f"{table.path}:1: has {len(fitting)} columns that may be meant: {names}; "
        "allowed: one, or say which with column"
    )


def _interpolated(
    path: Path, time_s: Floats, value: Floats, resolution_s: float, *, last: bool
) -> tuple[Floats, Floats]:
    """Return equal steps between the rows, each with the value of its middle."""
    gaps = np.diff(time_s)
    counts = np.maximum(np.ceil(gaps / resolution_s), 1.0)
    if counts.sum() > MAX_ROWS:
        raise ScenarioError(
            f"{path}: needs {counts.sum():,.0f} steps of {resolution_s:g} s; allowed: up to "
            f"{MAX_ROWS:,}; give a larger resolution"
        )
    counts = counts.astype(np.int64)
    row = np.repeat(np.arange(len(gaps)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin_s = time_s[row] + gaps[row] * (within / counts[row])
    middle = value[row] + (value[row + 1] - value[row]) * ((within + 0.5) / counts[row])
    if last:
        return np.append(begin_s, time_s[-1]), np.append(middle, value[-1])
    return begin_s, middle


def read_mahimahi(path: Path, bin_s: float) -> Steps:
    """Read a mahimahi trace: a rate in bits per second that repeats.

    Each line is the time in ms at which a packet of 1,500 bytes can leave. The trace repeats after
    its last time. The rate is that of the packets in bins of ``bin_s``; the last may be shorter.

    Raises:
        ScenarioError: With file, line and value.
    """
    times: list[int] = []
    for line, cells in _records(path):
        cell = ",".join(cells).strip()
        if not (cell.isascii() and cell.isdecimal() and len(cell) < 16):
            raise ScenarioError(f"{path}:{line}: {cell!r}; allowed: a whole number of ms")
        if times and int(cell) < times[-1]:
            problem = f"allowed: at least that of the line before, {times[-1]}"
            raise ScenarioError(f"{path}:{line}: {cell}; {problem}")
        times.append(int(cell))
    if not times or not times[-1]:
        problem = "is empty" if not times else "has no time above 0"
        raise ScenarioError(f"{path}: {problem}; allowed: times in ms, one a line")
    period_s = times[-1] / 1000
    count = max(math.ceil(period_s / bin_s), 1)
    if count > MAX_ROWS:
        raise ScenarioError(f"{path}: needs {count:,} bins of {bin_s:g} s; give a longer bin")
    begin_s = bin_s * np.arange(count).astype(np.float64)
    lengths: Floats = np.diff(np.append(begin_s, period_s))
    bins = np.minimum((np.array(times) / 1000 / bin_s).astype(np.int64), count - 1)
    packets = np.bincount(bins, minlength=count).astype(np.float64)
    return steps(begin_s, packets * PACKET_BITS / lengths, period_s, str(path))
