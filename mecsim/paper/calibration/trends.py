"""What a setting gives along the paper's sweeps: tests of it, not part of the criterion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from mecsim.model.blocks import blocks_of
from mecsim.paper.calibration.levels import STARTS, Levels, levels
from mecsim.paper.calibration.settings import Setting
from mecsim.support.arrays import Floats, Ints

SWEEPS: Final[dict[str, tuple[float, ...]]] = {
    "edge_servers": (2, 3, 4, 6, 9),
    "rate": (30, 50, 60, 70, 90, 110),
    "blocks": (3, 6, 9, 12, 15, 18),
    "tolerated_s": (1, 3, 5, 7),
}


@dataclass(frozen=True)
class Trends:
    """Levels along the sweeps, in the order of :data:`SWEEPS`."""

    edge_servers: Sequence[Levels]
    rate: Sequence[Levels]
    blocks: Sequence[Levels]
    tolerated_s: Sequence[Levels]


def trends(setting: Setting) -> Trends:
    """Return the levels of a setting along all sweeps, for slots of mean size."""
    setting = replace(setting, sizes=(1.0,))
    found: dict[str, list[Levels]] = {}
    for name, values in SWEEPS.items():
        along: list[Levels] = []
        found[name], before = along, setting
        for value in values:
            changes: dict[str, Any] = {name: value}
            at = replace(setting, **changes)
            hints = [carried(along[-1].placement, _flops(before), _flops(at))] if along else []
            along.append(levels(at, hints, starts=1 if hints else STARTS))
            before = at
    return Trends(**found)


def carried(placement: Sequence[int], before: Floats, after: Floats) -> Ints:
    """Return the placement of other cuts of a DNN that puts its work where this one does.

    Args:
        placement: Place of each block of the first cuts; shape (M,).
        before: FLOPs of these blocks; shape (M,).
        after: FLOPs of the blocks of the other cuts; shape (M',).

    Returns:
        For each block the place that does the middle of its work; shape (M',).

    Example:
        >>> carried([1, 2], np.array([6.0, 4.0]), np.array([5.0, 3.0, 2.0])).tolist()
        [1, 2, 2]
    """
    middles = np.cumsum(after) - after / 2
    block = np.searchsorted(np.cumsum(before), middles).clip(max=len(before) - 1)
    return np.array(placement, dtype=np.int64)[block]


def _flops(setting: Setting) -> Floats:
    return np.array(blocks_of(setting.scenario()).flops)


def delays(along: Sequence[Levels]) -> list[float]:
    """Return the total delays under the best placements, s."""
    return [each.best.total_delay_s for each in along]


def energies(along: Sequence[Levels]) -> list[float]:
    """Return the energies under the best placements, J a task."""
    return [each.best.energy_J for each in along]


def gaps(along: Sequence[Levels]) -> list[float]:
    """Return by how many per cent the total delays are below greedy's."""
    return [each.gap_percent for each in along]


def _never_rises(values: Sequence[float]) -> bool:
    return all(after <= before * (1 + 1e-4) for before, after in pairwise(values))


def _inside(values: Sequence[float]) -> bool:
    """Return whether the least value is inside, and below both ends."""
    return min(values) < min(values[0], values[-1])


TESTS: Final[dict[str, Callable[[Trends], bool]]] = {
    "total delay never rises with N (Fig. 8(a))": lambda t: _never_rises(delays(t.edge_servers)),
    "total delay is less with 9 servers than with 2": lambda t: (
        delays(t.edge_servers)[-1] < delays(t.edge_servers)[0]
    ),
    "energy never rises with N, and falls (Fig. 11(a))": lambda t: (
        _never_rises(energies(t.edge_servers))
        and energies(t.edge_servers)[-1] < energies(t.edge_servers)[0]
    ),
    "total delay never rises with M (Fig. 9(a))": lambda t: _never_rises(delays(t.blocks)),
    "total delay is less with 18 blocks than with 3": lambda t: (
        delays(t.blocks)[-1] < delays(t.blocks)[0]
    ),
    "energy is more with 18 blocks than with 3 (Fig. 11(b))": lambda t: (
        energies(t.blocks)[-1] > energies(t.blocks)[0]
    ),
    "the gap to greedy is smallest at λ = 50 (Fig. 10(a))": lambda t: (
        min(gaps(t.rate)) == gaps(t.rate)[1]
    ),
    "the gap is larger at λ = 110 than at 50 by 5 points (Fig. 10(a))": lambda t: (
        gaps(t.rate)[-1] - gaps(t.rate)[1] > 5
    ),
    "edge and local delay are more at λ = 110 than at 30 (Fig. 10(b, c))": lambda t: all(
        getattr(t.rate[-1].best, name) > getattr(t.rate[0].best, name)
        for name in ("edge_delay_s", "local_delay_s")
    ),
    "energy is more at λ = 110 than at 30 (Fig. 11(c))": lambda t: (
        energies(t.rate)[-1] > energies(t.rate)[0]
    ),
    "energy is less than greedy's with four servers (Fig. 11)": lambda t: (
        t.edge_servers[2].best.energy_J < t.edge_servers[2].greedy.energy_J
    ),
    "total delay falls, then rises with τ (Fig. 12(a))": lambda t: _inside(delays(t.tolerated_s)),
}
"""Claims of the paper about trends, as far as the best placement can tell."""
