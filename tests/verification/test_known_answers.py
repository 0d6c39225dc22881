"""The known-answer suite: it passes, and each check fails for a wrong model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pytest

from mecsim.kernels.hops import HopBuilder, Hops
from mecsim.kernels.simpy_kernel import SimpyKernel
from mecsim.kernels.tables import KernelTables
from mecsim.model.model import KINDS, Model
from mecsim.simulation import drive
from mecsim.simulation.totals import Totals
from mecsim.support.intervals import Interval
from mecsim.trace.schema import MemoryTrace, Rows
from mecsim.verification import exact_checks, known_answers
from mecsim.verification.check import Effort, Outcome, relative_gap, unequal

QUICK: Final = Effort(10, 8_000, "simpy")
SMALL: Final = Effort(2, 1_000, "simpy")
"""Enough for checks that are exact."""
EQUATIONS: Final = [
    "Delays and energies, full mesh of 3 servers",
    "Delays and energies, line of 3 servers",
]
ONE_QUEUE, EVERY_QUEUE, BATCHES = (
    "One queue, every task",
    "Every queue, every hop",
    "Batches at slot starts",
)
LITTLE, PARTS, REWARD = "Little's law, every resource", "Parts of the delay", "Reward of an episode"
REPLAY: Final = "Replay from a trace"
EXACT: Final = [*EQUATIONS, BATCHES, ONE_QUEUE, EVERY_QUEUE, LITTLE, PARTS, REWARD, REPLAY]
STATIONS: Final = [check.name for check in known_answers.checks() if "{replications}" in check.how]


@pytest.fixture(scope="module")
def quick() -> list[Outcome]:
    """The quick suite, on the faster kernel; a slow test runs the full one on the other."""
    reported: list[tuple[int, int]] = []
    outcomes = known_answers.run_checks(
        lambda done, todo: reported.append((done, todo)), quick=True, kernel="compiled"
    )
    assert reported == [(n + 1, len(outcomes)) for n in range(len(outcomes))]
    return outcomes


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.name for outcome in outcomes if not outcome.ok]


def measured(names: Sequence[str]) -> list[str]:
    """The checks of ``names`` that fail now."""
    effort = SMALL if set(names) <= {*EXACT} else QUICK
    chosen = [check for check in known_answers.checks() if check.name in names]
    assert len(chosen) == len(names)
    return failures([check.outcome(effort) for check in chosen])


# ------------------------------------------------------------------ the suite


@pytest.mark.statistical
def test_quick_suite_passes(quick: list[Outcome]) -> None:
    assert failures(quick) == []
    names = [outcome.name for outcome in quick]
    assert len(set(names)) == len(names)
    assert {*EXACT, *STATIONS} <= set(names)


@pytest.mark.statistical
@pytest.mark.slow
def test_full_suite_detects_10_percent() -> None:
    outcomes = known_answers.run_checks()
    assert failures(outcomes) == []
    for o in outcomes:
        if o.name in STATIONS:
            assert not o.low <= 0.9 * o.expected <= o.high, o.name
            assert not o.low <= 1.1 * o.expected <= o.high, o.name


def test_wrong_formula_fails(quick: list[Outcome]) -> None:
    """What is measured does not depend on the answer; so move the answer, not the measurement."""
    for check, outcome in zip(known_answers.checks(), quick, strict=True):
        again = replace(check, measure=partial(as_before, outcome))
        assert again.outcome(QUICK) == outcome
        for wrong in (check.expected * 0.6 - 1e-6, check.expected * 1.4 + 1e-6):
            assert not replace(again, expected=wrong).outcome(QUICK).ok, check.name


def as_before(outcome: Outcome, _: Effort) -> Interval:
    return Interval(outcome.low, outcome.measured, outcome.high)


def test_rows_and_markdown(quick: list[Outcome]) -> None:
    rows = known_answers.rows(quick)
    assert len(rows) == len(quick)
    assert all(len(row) == len(known_answers.HEADER) for row in rows)
    title, _, made_by, _, *lines = known_answers.as_markdown(quick).splitlines()
    assert title == "# Known answers"
    assert "mecsim verify --out" in made_by
    assert len(lines) == len(quick) + 2
    assert {line.count("|") for line in lines} == {len(known_answers.HEADER) + 1}
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [
        o.name for o in quick
    ]


def test_failed_check_says_no(quick: list[Outcome]) -> None:
    (row,) = known_answers.rows([replace(quick[0], ok=False)])
    assert row[known_answers.HEADER.index("ok")] == "NO"


def test_outcomes_as_json(quick: list[Outcome]) -> None:
    assert json.loads(json.dumps([asdict(o) for o in quick], allow_nan=False))


# ------------------------------------------------------------------ what compares


@pytest.mark.parametrize("compare", [unequal, relative_gap])
def test_comparison_of_columns(
    compare: Callable[[Any, Any], Interval],
) -> None:
    column = np.array([1.0, 2.0])
    assert compare(column, column.copy()).contains(0.0)
    for other in ([1.0, 2.001], [1.0], [1.0, 2.0, 3.0], [1.0, math.nan]):
        assert not compare(column, np.array(other)).contains(0.0)
    assert not compare(np.array([]), np.array([])).contains(0.0)


def test_equality_of_all_bits() -> None:
    one = np.array([1.0, 1.0])
    assert unequal(one, np.nextafter(one, 2)).mean == 2
    assert relative_gap(one, np.nextafter(one, 2)).contains(0.0)


def test_mean_number_by_hand() -> None:
    """One task from 0 to 2 s, one from 1 to 4 s: (1 + 2 + 1 + 1) / 5."""
    enter, leave = np.array([0.0, 1.0]), np.array([2.0, 4.0])
    assert exact_checks._mean_number(enter, leave, 5.0) == 1.0


# ------------------------------------------------------------------ a wrong model


class Late(SimpyKernel):
    """Every service begins late, by 1% of its length."""

    def collect(self) -> list[Hops]:
        ended = super().collect()
        for hops in ended:
            hops.column("start_s")[:] += 0.01 * hops.column("service_s")
        return ended


class DoubleBooked(SimpyKernel):
    """Every resource serves two at a time, whatever its capacity."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._cores |= {resource: [0.0, 0.0] for resource in range(len(model.resources))}


class Unfailing(SimpyKernel):
    """Outages change nothing."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._timed = frozenset()


def put_in(patch: pytest.MonkeyPatch, kernel: type[SimpyKernel]) -> None:
    patch.setattr(drive, "make_kernel", lambda name, model: kernel(model))


def with_wrong_hops(patch: pytest.MonkeyPatch, column: str, kinds: Sequence[str]) -> None:
    """Let a column be 1% too high at the hops through resources of some kinds."""
    hops = HopBuilder.hops

    def wrong(builder: HopBuilder, *arguments: Any) -> Hops:
        table, tables = hops(builder, *arguments), builder.tables
        bounds = [0, tables.device, tables.uplink, tables.downlink, tables.link]
        kind = np.searchsorted(bounds, table.column("resource"), side="right") - 1
        table.column(column)[np.isin(kind, [KINDS.index(name) for name in kinds])] *= 1.01
        return table

    patch.setattr(HopBuilder, "hops", wrong)


def test_slower_services_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    with_wrong_hops(monkeypatch, "service_s", ["server", "device"])
    names = [*EQUATIONS, BATCHES, ONE_QUEUE]
    assert measured(names) == names


@pytest.mark.parametrize("kind", ["device", "uplink"])
def test_wrong_energies_fail(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with_wrong_hops(monkeypatch, "energy_j", [kind])
    assert measured(EQUATIONS) == EQUATIONS


def test_late_services_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, Late)
    names = [*EQUATIONS, BATCHES, ONE_QUEUE, EVERY_QUEUE]
    assert measured(names) == names


@pytest.mark.slow
def test_double_booked_servers_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, DoubleBooked)
    names = [BATCHES, ONE_QUEUE, EVERY_QUEUE]
    assert measured(names) == names
    alike = "Tandem, 2 servers of 2 cores"  # have two servers anyway
    assert measured(STATIONS) == [name for name in STATIONS if name != alike]


def test_ignored_outages_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, Unfailing)
    breakdowns = [name for name in STATIONS if "breakdowns" in name]
    assert measured(breakdowns) == breakdowns


@pytest.mark.slow
def test_half_the_cores_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    class Halved(SimpyKernel):
        def __init__(self, model: Model) -> None:
            super().__init__(model)
            for servers in self._cores.values():
                del servers[1:]

    put_in(monkeypatch, Halved)
    names = ["M/M/4, server of 30 devices, ρ = 0.8", "Tandem, 2 servers of 2 cores"]
    assert measured([EVERY_QUEUE, *names]) == [EVERY_QUEUE, *names]


def corrupt(patch: pytest.MonkeyPatch, group: str, column: str) -> None:
    """Put a column of the trace wrong by a millionth."""

    class Corrupt(MemoryTrace):
        def append(self, group_: str, rows: Rows) -> None:
            if group_ == group and column in rows:
                rows = {**rows, column: rows[column] * (1 + 1e-6)}
            super().append(group_, rows)

    patch.setattr("mecsim.verification.check.MemoryTrace", Corrupt)


@pytest.mark.quick("start_s")
@pytest.mark.parametrize("column", ["enqueue_s", "start_s", "finish_s"])
def test_wrong_times_of_hops_fail(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    corrupt(monkeypatch, "hops", column)
    assert measured([EVERY_QUEUE, LITTLE]) == [EVERY_QUEUE, LITTLE]


@pytest.mark.parametrize("total", ["wait_s", "busy_s"])
def test_lost_time_fails_littles_law(monkeypatch: pytest.MonkeyPatch, total: str) -> None:
    resources = Totals.resources

    def less(totals: Totals) -> Any:
        getattr(totals.services, total)[:] *= 1 - 1e-6
        return resources(totals)

    monkeypatch.setattr(Totals, "resources", less)
    assert measured([LITTLE]) == [LITTLE]


@pytest.mark.quick("total_s")
@pytest.mark.parametrize("column", ["total_s", "edge_s", "local_s", "finish_s"])
def test_wrong_delay_parts_fail(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    corrupt(monkeypatch, "tasks", column)
    assert measured([PARTS]) == [PARTS]


@pytest.mark.parametrize("path", ["blocks/delay_s", "decisions/reward"])
def test_wrong_costs_fail(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    corrupt(monkeypatch, *path.split("/"))
    assert measured([REWARD]) == [REWARD]


def test_wrong_penalties_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = KernelTables.of

    def higher(model: Model) -> KernelTables:
        right = tables(model)
        return right._replace(beta=right.beta * (1 + 1e-6))

    monkeypatch.setattr(KernelTables, "of", higher)
    assert measured([REWARD]) == [REWARD]


def test_replay_on_another_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = iter([SimpyKernel, Late])
    monkeypatch.setattr(drive, "make_kernel", lambda name, model: next(kernels)(model))
    assert measured([REPLAY]) == [REPLAY]


@pytest.mark.slow
def test_two_kernels_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = {"simpy": SimpyKernel, "again": SimpyKernel, "late": Late}
    monkeypatch.setattr(exact_checks, "KERNELS", tuple(kernels))
    monkeypatch.setattr(drive, "make_kernel", lambda name, model: kernels[name](model))
    names = ["Kernels simpy and again", "Kernels again and late"]
    assert measured(names) == names[1:]


def test_suite_uses_the_given_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str] = set()

    def make(name: str, model: Model) -> SimpyKernel:
        asked.add(name)
        return SimpyKernel(model)

    monkeypatch.setattr(drive, "make_kernel", make)
    effort = SMALL._replace(kernel="another")
    for check in known_answers.checks():
        if not check.name.startswith("Kernels"):
            check.outcome(effort)
    assert asked == {"another"}
