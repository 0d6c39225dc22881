"""Fits a scenario to the first part of a measured trace."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mecsim.errors import InputError, TraceError
from mecsim.model.model import KINDS, Model, resolve
from mecsim.model.task_status import COMPLETED
from mecsim.scenario.schema import Scenario
from mecsim.scenario.testbed import Calibrated
from mecsim.simulation.recorded import class_column
from mecsim.support.arrays import Bools, Floats, Ints
from mecsim.support.text import finite
from mecsim.testbed.calibrated_scenario import NodeKind, calibrated_scenario, node_kinds
from mecsim.testbed.fits import FEW, Estimate, TransferFit, fit_mean, fit_transfers
from mecsim.testbed.prediction import check_measured
from mecsim.trace import TraceFile
from mecsim.trace.values import check_values

TRANSFERS: Final = {"radio": ("uplink", "downlink"), "wired": ("link",)}
"""Sections of a scenario, and the kinds of resources whose headers and overhead they give."""

_MOST_NAMED: Final = 4
_log = logging.getLogger(__name__)


class ServiceFit(BaseModel):
    """The service times of a block at the nodes of a type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    """The group of nodes, or ``server`` or ``device`` where there are no groups."""
    class_: str = Field(serialization_alias="class")
    """The class of the tasks, empty where the scenario names none."""
    block: int
    """Its number, from 0."""
    services: int
    """Services that were measured."""
    planned_s: float
    """The time in the scenario of the trace."""
    service_s: Estimate
    """The mean; for a block that never ran there, the planned time times the mean ratio of the
    blocks of the type that did."""

    @property
    def name(self) -> str:
        """The type of nodes and the block, for tables and messages."""
        block = f"{self.class_} block {self.block}" if self.class_ else f"block {self.block}"
        return f"{self.type}, {block}"


class Calibration(BaseModel):
    """What was fitted to a trace. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: str
    until_s: float
    """Release of the first task that was not used."""
    tasks: int
    """Tasks that were used: completed, and released before."""
    services: tuple[ServiceFit, ...]
    radio: TransferFit | None
    """None if nothing was sent over the radio."""
    wired: TransferFit | None
    """None if nothing was sent over wired links."""
    scenario: Scenario = Field(exclude=True, repr=False)
    """The scenario of the trace with the fitted numbers."""

    def as_json(self) -> dict[str, Any]:
        """Return the document that ``mecsim calibrate --json`` prints."""
        document: dict[str, Any] = finite(self.model_dump(mode="json", by_alias=True))
        return document


def calibrate(trace: str | os.PathLike[str], *, first: float = 0.5) -> Calibration:
    """Fit service times, headers and overheads to the first tasks of a measured trace.

    Args:
        trace: A complete trace that ``mecsim testbed`` has written.
        first: The share of the tasks that is used, in order of release; inside (0, 1).

    Raises:
        InputError: The trace was not measured or is incomplete, or too few tasks are used.
        ScenarioError: Equal service times cannot describe the nodes of the scenario.
    """
    if not 0 < first < 1:
        raise InputError(f"first: {first:g}; allowed: a share above 0 and below 1")
    with TraceFile(Path(trace)) as file:
        check_measured(file)
        check_values(file)
        model = resolve(file.scenario, file.made_by.seed)
        kinds = node_kinds(model)
        until_s, used = _used(file, first)
        hops = _Hops.of(file, model, used)
        services = tuple(each for kind in kinds for each in _service_fits(hops, model, kind))
        fits = {
            section: _transfers(hops, [KINDS.index(name) for name in names])
            for section, names in TRANSFERS.items()
        }
        calibrated = Calibrated(
            trace=file.path.name,
            created_utc=str(file.attributes()["created_utc"]),
            until=until_s,
        )
        _warn_of_few(file.path, int(np.count_nonzero(used)), services, fits)
        seconds = np.array([each.service_s.value for each in services]).reshape(len(kinds), -1)
        return Calibration(
            trace=str(file.path),
            until_s=until_s,
            tasks=int(np.count_nonzero(used)),
            services=services,
            radio=fits["radio"],
            wired=fits["wired"],
            scenario=calibrated_scenario(model, kinds, seconds, fits, calibrated, _dnns(file)),
        )


def _used(trace: TraceFile, first: float) -> tuple[float, Bools]:
    """Return the release of the first task that is not used, and which tasks are.

    Raises:
        InputError: None are.
    """
    release_s, status = trace.read("tasks", "release_s"), trace.read("tasks", "status")
    ordered = np.sort(release_s)
    count = int(first * len(ordered))
    until_s = float(ordered[count]) if len(ordered) else 0.0
    used: Bools = (release_s < until_s) & (status == COMPLETED)
    if not used.any():
        raise InputError(
            f"{trace.path}: none of its {len(ordered)} tasks completed and was released before "
            f"{until_s:g} s, so none can be fitted to. Try: a larger share, or a longer run"
        )
    sizes = trace.read("tasks", "size_factor")
    if (sizes != 1).any():
        raise InputError(f"{trace.path}: has tasks of other sizes than 1; allowed: 1 for all")
    return until_s, used


@dataclass(frozen=True)
class _Hops:
    """The h hops of the tasks that are used."""

    resource: Ints
    """Shape (h,)."""
    kind: Ints
    """Index into ``KINDS``; shape (h,)."""
    block: Ints
    """Row among the blocks of all classes; shape (h,)."""
    service_s: Floats
    """Shape (h,)."""
    by_bits_s: Floats
    """Bits / rate of transfers, NaN of others; shape (h,)."""

    @classmethod
    def of(cls, trace: TraceFile, model: Model, used: Bools) -> _Hops:
        task = trace.read("hops", "task")
        if len(task) and not 0 <= task.min() <= task.max() < len(used):
            raise TraceError(f"{trace.path}: column /hops/task names tasks that do not exist")
        mine = used[task]
        task, resource, block, start_s, finish_s = (
            trace.read("hops", name)[mine]
            for name in ("task", "resource", "block", "start_s", "finish_s")
        )
        if not np.isfinite(finish_s - start_s).all():
            problem = "has no time for hops of completed tasks"
            raise TraceError(f"{trace.path}: column /hops/start_s or /hops/finish_s {problem}")
        class_ = class_column(trace, "tasks", 0, len(used))[task].astype(np.int64)
        blocks_of_class = np.diff(model.first_block)[class_]
        if not ((block >= 0) & (block < blocks_of_class)).all():
            raise TraceError(f"{trace.path}: column /hops/block names blocks that do not exist")
        block = block + model.first_block[class_]
        kind = model.resources.kind[resource]
        slot, device = (trace.read("tasks", name)[task] for name in ("slot", "device"))
        rate_bps = trace.read("slots", "rate_bps")[slot, device].astype(np.float64)
        wired = kind == KINDS.index("link")
        rate_bps[wired] = model.links.rate_bps[resource[wired] - model.resources.link]
        if not (rate_bps[_is_transfer(kind)] > 0).all():
            raise TraceError(f"{trace.path}: column /slots/rate_bps is not above 0 for a transfer")
        bits = model.input_bits[block]
        result = _is_result(task, block, kind)
        bits[result] = model.result_bits[class_[result]]
        by_bits_s = np.where(_is_transfer(kind), bits / rate_bps, np.nan)
        return cls(resource, kind, block, finish_s - start_s, by_bits_s)


def _is_transfer(kind: Ints) -> Bools:
    return np.asarray(kind >= KINDS.index("uplink"))


def _is_result(task: Ints, block: Ints, kind: Ints) -> Bools:
    """Return which hops are transfers of a result: they come after their block was computed."""
    rows, transfer = np.arange(len(task)), _is_transfer(kind)
    key = task * (int(block.max(initial=0)) + 1) + block
    computed = np.full(int(key.max(initial=0)) + 1, len(task))
    computed[key[~transfer]] = rows[~transfer]
    return np.asarray(transfer & (rows > computed[key]))


def _service_fits(hops: _Hops, model: Model, kind: NodeKind) -> Iterator[ServiceFit]:
    """Yield the fit of each block of all classes at the nodes of a kind."""
    here = np.isin(hops.resource, kind.nodes)
    planned_s = kind.planned_s(model)
    means: list[Estimate | None] = []
    counts = np.bincount(hops.block[here], minlength=len(planned_s))
    for row, count in enumerate(counts.tolist()):
        values = hops.service_s[here & (hops.block == row)] if count else None
        means.append(None if values is None else fit_mean(values))
    known = [row for row, mean in enumerate(means) if mean is not None]
    below = float(planned_s[known].sum())
    total = math.fsum(mean.value for mean in means if mean is not None)
    ratio = total / below if below else 1.0
    names = [each.name for each in model.classes]
    for row, mean in enumerate(means):
        number = int(np.searchsorted(model.first_block, row, side="right")) - 1
        yield ServiceFit(
            type=kind.name,
            class_=names[number],
            block=row - int(model.first_block[number]),
            services=int(counts[row]),
            planned_s=float(planned_s[row]),
            service_s=mean or Estimate(value=float(planned_s[row]) * ratio),
        )


def _transfers(hops: _Hops, kinds: Sequence[int]) -> TransferFit | None:
    """Return the fit of the transfers over some kinds of resources, None without any."""
    rows = np.isin(hops.kind, kinds) & (hops.by_bits_s > 0)
    return fit_transfers(hops.by_bits_s[rows], hops.service_s[rows]) if rows.any() else None


def _dnns(trace: TraceFile) -> list[Any]:
    """Return what named the DNN of each class, none in a trace that does not have it."""
    found = (trace.made_by.testbed or {}).get("dnns")
    return found if isinstance(found, list) else []


def _warn_of_few(
    trace: Path,
    tasks: int,
    services: Sequence[ServiceFit],
    transfers: Mapping[str, TransferFit | None],
) -> None:
    """Warn of numbers that were fitted to few measurements."""
    counts = {each.name: each.services for each in services if each.services}
    counts |= {f"{name} transfers": fit.transfers for name, fit in transfers.items() if fit}
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
    if few:
        more = len(few) - _MOST_NAMED
        named = "; ".join(few[:_MOST_NAMED]) + (f"; and {more} others" if more > 0 else "")
        _log.warning(
            "%s: %d tasks make an uncertain calibration: fewer than %d measurements of %s. "
            "A service that is slow once in a while may be missing. "
            "Try: a longer run, or a larger --first",
            trace,
            tasks,
            FEW,
            named,
        )
