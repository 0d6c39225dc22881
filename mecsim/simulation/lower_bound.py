"""Lower bound on the cost of a run, whatever the scheduler.

The cost of a task is Σ_m L_m + β·max(L_m − τ_m, 0) (Eqs. 13 and 14). Minus the reward of a run is
the sum over slots of the mean cost of their tasks, or of all costs, as the scenario asks. Tasks
that its ``measurement`` does not count are left out of both the reward and the bound.

A task's bound is the least cost of all (N + 1)^M placements on an empty network. No policy gets
below it for a task that completes: whatever placement it chose, the task crosses the same hops, for
as long at each as on an empty network; queues can only add waiting to an L_m, and the cost grows
with every L_m (β ≥ 0). A task that fails (its device's battery is spent) costs only the blocks that
it finished, which may be less than its bound: compare runs in which every task completes.

Where rates or capacities follow a series, the bound assumes the highest ones at all times, and
where radio rates vary within transfers, the highest of the slots from the task's own on. Routes are
those of nominal rates, as in a run. Outages only add waiting.

The sums here are rounded otherwise than the clock of a simulation, from whose times L_m are
differences. So a cost may come out below its bound by some units in the last place of the time at
which it is incurred (about 1e-16 of it for each hop), never more. Nothing is taken off for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mecsim.model import equations
from mecsim.model.empty_network import EmptyNetwork, Work, cheapest_chain, costs_to_go
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.support.arrays import Floats, Ints


class LowerBound:
    """The least costs of tasks, one by one or summed over the slots of a run.

    ::

        bound = LowerBound(model)
        for slot in slots:
            bound.add(slot)
        bound.reward, bound.gap_percent(reward)

    A task takes time and memory in proportion to M·(N + 1)².
    """

    def __init__(self, model: Model) -> None:
        self._models = [model.of_class(number) for number in range(len(model.classes))]
        speedup = _speedup(model)
        self._networks = [EmptyNetwork(each, speedup) for each in self._models]
        self._fastest_bps = _fastest_bps(model)
        self._averages = model.scenario.reward.aggregation == "mean"
        self._counted_s = model.scenario.counted_s
        self.tasks = 0
        """Number of tasks added."""
        self.total = 0.0
        """Minus the reward of the slots added, at least."""
        self.tasks_of_class = [0] * len(self._models)
        """Number of tasks of each class added."""
        self.total_of_class = [0.0] * len(self._models)
        """The part of each class in :attr:`total`."""

    def add(self, slot: Slot) -> None:
        """Add the tasks that are released in a slot, those that count."""
        begin, end = np.searchsorted(slot.tasks.release_s, self._counted_s).tolist()
        costs = self.costs(slot.tasks[begin:end], slot)
        self.tasks += len(costs)
        weight = float(equations.reward_weight(float(slot.tasks.in_slot), self._averages))
        self.total += weight * math.fsum(costs.tolist())
        class_ = slot.tasks.class_[begin:end]
        for number in range(len(self._models)):
            mine = costs[class_ == number]
            self.tasks_of_class[number] += len(mine)
            self.total_of_class[number] += weight * math.fsum(mine.tolist())

    @property
    def reward(self) -> float:
        """The reward of an episode (Eq. 14) that no scheduler exceeds if every task completes."""
        return 0.0 - self.total

    def gap_percent(self, reward: float) -> float | None:
        """Return by how much an episode of this reward costs more than the bound, in percent.

        None where the bound is zero, as without tasks.
        """
        return 100 * (-reward - self.total) / self.total if self.total else None

    def costs(self, tasks: Tasks, slot: Slot) -> Floats:
        """Return what each task of a slot costs at least, whatever its weight in the reward.

        Shape (n,).
        """
        least = np.empty(len(tasks))
        for mine, costs in self._stages(tasks, slot):
            least[mine] = costs_to_go(costs)[0, 0]
        return least

    def placements(self, tasks: Tasks, slot: Slot) -> Ints:
        """Return the placement at which each task of a slot costs least, shape (n, M).

        Among equally good places the lowest-numbered, block by block from the first. Beyond the
        blocks of a task's class it is −1.
        """
        most = max(each.blocks for each in self._models)
        best = np.full((len(tasks), most), -1, dtype=np.int64)
        for mine, costs in self._stages(tasks, slot):
            best[mine, : len(costs)] = cheapest_chain(costs)
        return best

    def _stages(self, tasks: Tasks, slot: Slot) -> Iterator[tuple[Ints, Floats]]:
        """Yield rows of tasks, with the costs of every step of their chains, piece by piece."""
        fastest_bps = self._fastest_bps[slot.number % len(self._fastest_bps)]
        rate_bps = np.fmax(slot.rate_bps, fastest_bps)
        for number, (model, network) in enumerate(zip(self._models, self._networks, strict=True)):
            mine = np.flatnonzero(tasks.class_ == number)
            size, device = tasks.size[mine].T[: model.blocks], tasks.device[mine]
            work = Work(device, slot.serving_server[device], rate_bps[device], size)
            for piece in network.pieces(len(mine)):
                yield mine[piece], network.costs(work[piece])


def _speedup(model: Model) -> Floats | None:
    """Return the highest rate of each resource over its nominal one; None if all are nominal."""
    if not model.series:
        return None
    speedup = np.ones(len(model.resources))
    for resources, steps in model.series:
        speedup[resources] = float(steps.value.max()) / steps.nominal
    return speedup


def _fastest_bps(model: Model) -> Floats:
    """Return the highest radio rate that tasks of each slot may meet; 0 where it is that slot's.

    Shape (slots, D), or (1, D) for all slots.
    """
    fastest = np.zeros((1, model.devices))
    if model.slot_rates is not None:
        rates, devices = model.slot_rates
        fastest = np.zeros(rates.shape)
        fastest[:, devices] = np.maximum.accumulate(rates[::-1, devices])[::-1]
    for devices, steps in model.radio_series():
        fastest[:, devices] = steps.value.max()
    return fastest
