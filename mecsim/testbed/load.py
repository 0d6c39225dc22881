"""Whether a machine can compute what a run asks of it, from times measured on it at the start."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mecsim.errors import InputError
from mecsim.model.model import Model
from mecsim.model.workload import RecordedWorkload, mean_tasks
from mecsim.support.arrays import Floats, Ints
from mecsim.testbed.modes import Modes

MOST_LOAD: Final = 0.7
"""Largest share of the cores that computing may take on average."""
ENOUGH_PADDING: Final = 5.0
"""Planned over real time of a block from which services last as planned although others compute."""
HOP_S: Final = 1e-3
"""Processor time that a hop takes apart from its computing: frames, queues, threads. A node that
only sent and received took 1.9 ms for a task with two transfers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """What a run asks of a machine of some cores, at a stretch of time."""

    share: float
    """Share of the cores that computing takes on average."""
    padding: float
    """Least planned over real time of a block at any node; infinite where nodes are natural."""
    worst_block: str
    """The block with the least padding, and where."""
    together: float
    """Cores that are needed while every node computes what it can worst pad."""
    stretch: float
    cores: int

    @property
    def least_stretch(self) -> float:
        """The least stretch of time that fits, rounded up to two digits."""
        return _two_digits(
            self.stretch * max(self.share / MOST_LOAD, 1.0 / self.padding), math.ceil
        )


def load_of(
    model: Model,
    block_ms: Sequence[Sequence[float]],
    cores: int,
    modes: Modes,
    recorded: RecordedWorkload | None = None,
    nodes: Sequence[int] | None = None,
) -> Load:
    """Return the load of a run on a machine.

    Where it has only some of the nodes, at most what these can compute counts: which of the tasks
    come to them depends on the scheduler.

    Args:
        model: The resolved scenario.
        block_ms: Processor time of each block of each class.
        cores: Of the machine.
        modes: How nodes are made, and the stretch of time.
        recorded: Recorded tasks, if they are not drawn.
        nodes: Numbers of the nodes of the machine, servers first; all by default.
    """
    slot_s = model.scenario.slot_length * modes.stretch
    rates = [
        mean_tasks(model.of_class(number), recorded) / slot_s
        for number in range(len(model.classes))
    ]
    hops = 2.0 * HOP_S
    work = [sum(each) / 1e3 + hops * len(each) for each in block_ms]
    share = sum(rate * seconds for rate, seconds in zip(rates, work, strict=True)) / cores
    real_s = np.concatenate(block_ms) / 1e3
    chosen = np.arange(model.servers + model.devices) if nodes is None else np.asarray(nodes)
    if modes.nodes == "natural":
        load = Load(share, math.inf, "", 0.0, modes.stretch, cores)
        most = float(model.capacity[chosen].sum())
    else:
        load = _padded(model, real_s, chosen, Load(share, 0.0, "", 0.0, modes.stretch, cores))
        most = load.together
    return load if nodes is None else replace(load, share=min(share, most / cores))


def _padded(model: Model, real_s: Floats, nodes: Ints, load: Load) -> Load:
    """Return the load with the padding of nodes."""
    compute, stretch = model.compute, load.stretch
    planned_s = compute.work[compute.node_type] / compute.speed[:, None] * stretch
    padding = planned_s[nodes] / real_s
    worst = padding.min(axis=1)
    node, block = np.unravel_index(int(padding.argmin()), padding.shape)
    names = [*model.server_names(), *model.device_names()]
    where = f"{model.block_names[int(block)]} at {names[int(nodes[node])]}"
    parallel = model.capacity[nodes]
    with np.errstate(divide="ignore"):
        together = float((parallel / worst).sum())
    return replace(load, padding=float(worst.min()), worst_block=where, together=together)


def check_load(load: Load, machine: str = "this machine") -> None:
    """Raise ``InputError`` if a machine cannot do what is asked of it; warn if it hardly can."""
    if load.padding == 0.0:
        raise InputError(
            f"testbed: block {load.worst_block} takes 0 s in the scenario, but has to be computed. "
            "Try: --nodes natural"
        )
    reasons = []
    if load.share > MOST_LOAD:
        percent = math.ceil(round(100 * load.share, 9))
        reasons.append(
            f"computing would take {percent}% of {load.cores} cores on average "
            f"(allowed: {MOST_LOAD:.0%})"
        )
    if load.padding < 1.0:
        reasons.append(
            f"block {load.worst_block} really takes {_two_digits(1 / load.padding, math.ceil):g} "
            "times its service time in the scenario"
        )
    if reasons:
        fits = "fewer tasks" if load.padding == math.inf else f"--stretch {load.least_stretch:g}"
        raise InputError(f"testbed: does not fit {machine}: {'; '.join(reasons)}. Try: {fits}")
    if load.padding < ENOUGH_PADDING:
        _log.warning(
            "testbed: block %s is padded to only %g times its real time, so services will vary. "
            "Expected: at least %g times. Try: --stretch %g",
            load.worst_block,
            _two_digits(load.padding, math.floor),
            ENOUGH_PADDING,
            _two_digits(load.stretch * ENOUGH_PADDING / load.padding, math.ceil),
        )
    elif load.padding < math.inf and load.together > load.cores:
        _log.warning(
            "testbed: if all nodes compute together, they need %g cores, and there are %d: "
            "services may then last longer than planned. Try: --stretch %g",
            _two_digits(load.together, math.ceil),
            load.cores,
            _two_digits(load.stretch * load.together / load.cores, math.ceil),
        )


def _two_digits(value: float, rounded: Callable[[float], int]) -> float:
    """Return a number above 0 with two digits, rounded away from the limit that it misses.

    >>> _two_digits(4.96, math.floor), _two_digits(0.0201, math.ceil), _two_digits(52.0, math.ceil)
    (4.9, 0.021, 52.0)
    """
    scale = 10.0 ** (1 - math.floor(math.log10(value)))
    return rounded(round(value * scale, 9)) / scale
