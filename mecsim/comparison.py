"""A sink that compares the rows of a run with those of a recorded trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from mecsim.session import Session
from mecsim.store import TraceFile, resource_columns
from mecsim.trace import COLUMNS, Column, Difference, Rows, first_difference


class Comparison:
    """A sink that compares the rows of a run with those of a recorded trace."""

    BUFFER_BYTES = 4 << 20

    def __init__(self, trace: TraceFile) -> None:
        self._trace = trace
        self._buffer: dict[tuple[str, str], list[Column]] = {}
        self._bytes = 0
        self._done: dict[tuple[str, str], int] = {}
        self.difference: Difference | None = None

    def append(self, group: str, rows: Rows) -> None:
        """Take further rows; compare them when there are enough to be worth reading the file."""
        if group == "resources":
            return
        for name, values in rows.items():
            self._buffer.setdefault((group, name), []).append(values)
            self._bytes += values.nbytes
        if self._bytes >= self.BUFFER_BYTES:
            self._compare_buffer()

    def _compare_buffer(self) -> None:
        for (group, name), pieces in self._buffer.items():
            values = np.concatenate(pieces)
            begin = self._done.get((group, name), 0)
            self._done[group, name] = begin + len(values)
            if self.difference is None:
                self.difference = self._compare(group, name, begin, values)
        self._buffer.clear()
        self._bytes = 0

    def _compare(self, group: str, name: str, begin: int, values: Any) -> Difference | None:
        recorded = self._trace.read(group, name, begin, begin + len(values))
        if not self._trace.complete:  # rows that were not flushed, rewards that were not known
            values = values[: len(recorded)]
            if name == "reward":
                known = ~np.isnan(recorded)
                recorded, values = recorded[known], values[known]
        return first_difference(group, name, begin, recorded, values)

    def finish(self, session: Session) -> None:
        """Compare what is left: the last rows, the numbers of rows, the resources."""
        self._compare_buffer()
        for group, columns in COLUMNS.items():
            for name in columns if group != "resources" else ():
                if self.difference is None:
                    self.difference = self._missing(group, name)
        if self._trace.complete and self.difference is None:
            rows = resource_columns(session.model) | dict(session.totals.resource_rows())
            found = (self._compare("resources", name, 0, rows[name]) for name in rows)
            self.difference = next((d for d in found if d is not None), None)

    def _missing(self, group: str, name: str) -> Difference | None:
        """Return that the run had too few rows; it is not known of a run that was cut short.

        A flush that was cut short leaves rows of some columns that later decisions have made.
        """
        done, recorded = self._done.get((group, name), 0), self._trace.rows(group, name)
        if done >= recorded or not self._trace.complete:
            return None
        return Difference(group, name, done, f"{recorded} rows", f"{done} rows")

    def rows(self) -> dict[str, int]:
        """Return the number of rows compared in each group: in all its columns."""
        resources = {"resources": self._trace.length("resources")}
        return {
            group: self._compared(group) for group in COLUMNS if group != "resources"
        } | resources

    def _compared(self, group: str) -> int:
        done = min(self._done.get((group, name), 0) for name in COLUMNS[group])
        return min(done, self._trace.length(group))
