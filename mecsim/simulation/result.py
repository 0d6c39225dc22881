"""The result of a run: its summary, its rows as arrays and frames, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from mecsim.errors import InputError
from mecsim.simulation.metrics import METRICS, RunSummary, completed_between
from mecsim.support.text import number
from mecsim.trace import TraceFile
from mecsim.trace.schema import Column, MemoryTrace, Rows

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

GROUPS: Final = ("tasks", "blocks", "decisions")
BUSIEST: Final = 6
"""Resources that are shown."""
_Cells: TypeAlias = list[list[str]]


class KeptRows(MemoryTrace):
    """A sink that keeps the rows of ``GROUPS`` in memory."""

    def append(self, group: str, rows: Rows) -> None:
        """Append rows of some columns of a group."""
        if group in GROUPS:
            super().append(group, rows)


@dataclass(frozen=True, repr=False)
class RunResult:
    """The result of a finished run.

    The rows of the run are read from its trace file. Where none was written, the run is repeated
    once, on the compiled kernel, when rows are asked for: a run depends on nothing but its
    scenario, scheduler and seed. :data:`mecsim.trace.schema.COLUMNS` describes the columns.

    Example:
        >>> from mecsim import load, run
        >>> result = run(load("vgg16_4es", "slots=2"), "greedy", seed=1)
        >>> result.tasks["total_s"].shape, result.decisions["placement"].shape
        ((120,), (2, 6))
    """

    summary: RunSummary
    trace: Path | None
    """The trace file, None if none was written."""
    features: tuple[str, ...] = ()
    """Names of the entries of ``decisions["observation"]``."""
    rows: Callable[[], MemoryTrace] | None = field(default=None, compare=False)
    """Gives the rows where there is no trace file; None if nothing can."""

    @cached_property
    def tasks(self) -> Mapping[str, Column]:
        """Columns of the tasks by name: release, device, delays, energy; shape (tasks,) each."""
        return self._columns("tasks")

    @cached_property
    def blocks(self) -> Mapping[str, Column]:
        """Columns of the blocks of all tasks by name: task, block, node, times; shape (rows,)."""
        return self._columns("blocks")

    @cached_property
    def decisions(self) -> Mapping[str, Column]:
        """Columns of the epochs by name; placements have shape (epochs, M)."""
        return self._columns("decisions")

    def frame(self, group: str = "tasks") -> pandas.DataFrame:
        """Return rows as a pandas frame; columns with several values a row are split.

        Args:
            group: ``tasks``, ``blocks`` or ``decisions``.

        Raises:
            InputError: The group is not known, pandas is not installed, or there are no rows.
        """
        if group not in GROUPS:
            raise InputError(f"frame: {group!r}; allowed: {', '.join(GROUPS)}")
        try:
            import pandas  # noqa: PLC0415 - optional
        except ImportError as error:
            raise InputError("frame: needs pandas. Try: pip install pandas") from error
        columns: dict[str, Column] = {}
        for name, values in getattr(self, group).items():
            if values.ndim == 1:
                columns[name] = values
                continue
            numbered = [f"{name}_{i}" for i in range(values.shape[1])]
            titles = self.features if name == "observation" else numbered
            columns |= dict(zip(titles, values.T, strict=True))
        return pandas.DataFrame(columns)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the share of completed tasks by their total delay, of those that count.

        Args:
            axes: Axes that may have other runs already; new ones by default.

        Returns:
            The axes.

        Raises:
            InputError: Matplotlib is not installed, no task completed, or there are no rows.
        """
        tasks, counted = self.tasks, self.summary.counted
        window_s = (0.0, math.inf) if counted is None else (counted.from_s, counted.to_s)
        done = completed_between(tasks["status"], tasks["release_s"], window_s)
        delays = tasks["total_s"][done]
        if not len(delays):
            raise InputError("plot: no task completed")
        try:
            from matplotlib import pyplot as plt  # noqa: PLC0415 - optional
        except ImportError as error:
            raise InputError("plot: needs matplotlib. Try: pip install 'mecsim[plot]'") from error
        if axes is None:
            axes = plt.subplots()[1]
            axes.set(xlabel=METRICS["total_delay_s"].axis, ylabel="share of completed tasks")
            axes.set_title(self.summary.scenario)
        axes.ecdf(delays, label=self.summary.scheduler)
        axes.legend()
        return axes

    def _columns(self, group: str) -> Mapping[str, Column]:
        if self.trace is not None:
            with TraceFile(self.trace) as file:
                return {name: file.read(group, name) for name in file.columns[group]}
        if self.rows is None:
            raise InputError(f"{group}: the rows of this run were not kept. Try: give it out=FILE")
        kept = self.rows()
        vars(self).update(
            {each: {name: kept[f"{each}/{name}"] for name in kept.names(each)} for each in GROUPS}
        )
        found: Mapping[str, Column] = vars(self)[group]
        return found

    def __getstate__(self) -> dict[str, object]:
        """Leave out the rows that were read."""
        return {name: value for name, value in vars(self).items() if name not in GROUPS}

    def __repr__(self) -> str:
        """Return the summary as text."""
        lines = [self.summary.title, *_aligned(self.summary.statistics())]
        if self.summary.scheduler_reason is not None:
            lines.insert(1, self._reason)
        return "\n".join([*lines, *self._after])

    def _repr_html_(self) -> str:
        """Return the summary as HTML, for notebooks."""
        summary = self.summary
        parts = [f"<p><b>{escape(summary.title)}</b></p>"]
        if summary.scheduler_reason is not None:
            parts.append(f"<p>{escape(self._reason)}</p>")
        busiest = [["resource", "utilization", "mean queue", "mean wait (s)"]]
        for row in summary.resources[:BUSIEST]:
            share = f"{row.utilization:.1%}"
            busiest.append([row.name, share, number(row.mean_queue), number(row.mean_wait_s)])
        parts += [_html(summary.statistics()), *(f"<p>{escape(line)}</p>" for line in self._after)]
        parts.append(_html(busiest))
        return "\n".join(parts)

    @property
    def _after(self) -> list[str]:
        """Lines below the table."""
        lines = (self.summary.outcome, self.summary.counting)
        return [line for line in lines if line is not None]

    @property
    def _reason(self) -> str:
        return f"scheduler: {self.summary.scheduler}, as {self.summary.scheduler_reason}"


def _aligned(cells: _Cells) -> list[str]:
    """Return a table as lines: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_padded(row, widths)).rstrip() for row in cells]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]


def _html(cells: _Cells) -> str:
    """Return a table as HTML; the first row is its head."""
    head, *body = cells
    rows = "".join(_html_row(row, "td") for row in body)
    return f"<table><thead>{_html_row(head, 'th')}</thead><tbody>{rows}</tbody></table>"


def _html_row(row: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in row)}</tr>"
