"""The static description of a run that a scheduler receives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import SchedulerError
from mecsim.model.calendars import available
from mecsim.model.detours import around
from mecsim.model.empty_network import EmptyNetwork
from mecsim.model.model import Model
from mecsim.model.random_streams import generator
from mecsim.model.topology import Links
from mecsim.model.workload import mean_rate
from mecsim.scenario.schema import Radio, RecordedTasks
from mecsim.scheduler.feature_scale import FeatureScale
from mecsim.support.arrays import Bools, Floats, Ints, read_only

Placement: TypeAlias = Sequence[int] | NDArray[np.integer]
"""One place for each block, in {0, …, N}: 0 is the task's device, n is edge server n (Eq. 2)."""


class SchedulerSpec:
    """What does not change during a run: N servers, D devices, M blocks, L wired links.

    A read-only view on a resolved model: it shows what a scheduler may know, so not the seed.

    Where tasks are of several classes, each class has its own spec, see :attr:`classes` and
    :attr:`Observation.spec`. The spec of the whole run then has no blocks: what depends on them
    raises ``SchedulerError``.

    Args:
        model: The network and its DNN. It may come from a scenario or from a measured testbed.
        rng: The scheduler's own stream of random numbers.
        run: The spec of the whole run, if this one is for a class of tasks.
    """

    def __init__(
        self, model: Model, rng: np.random.Generator, run: SchedulerSpec | None = None
    ) -> None:
        self._model = model
        self._run = run
        self._detours: dict[int, Any] = {}
        """Route tables of blocks around failed links, and at −1 the state of the links."""
        self.rng = rng
        """The scheduler's own stream of random numbers."""

    @classmethod
    def of(cls, model: Model) -> SchedulerSpec:
        """Return the spec of a simulated run.

        Args:
            model: The resolved scenario. Its seed also seeds the scheduler's random stream.

        Returns:
            A new spec, whose random stream is at its beginning.
        """
        one = model.of_class(0) if len(model.classes) == 1 else model
        return cls(one, generator(model.seed, "scheduler"))

    @property
    def servers(self) -> int:
        """N, the number of edge servers."""
        return self._model.servers

    @property
    def devices(self) -> int:
        """D, the number of devices."""
        return self._model.devices

    @cached_property
    def classes(self) -> tuple[SchedulerSpec, ...]:
        """The specs of the classes of tasks, this one itself if there is only one; length C."""
        if len(self._model.classes) == 1:
            return (self,)
        numbers = range(len(self._model.classes))
        return tuple(SchedulerSpec(self._model.of_class(c), self.rng, self) for c in numbers)

    @property
    def run(self) -> SchedulerSpec:
        """The spec of the whole run, with all classes of tasks."""
        return self._run or self

    @cached_property
    def releasing(self) -> Ints:
        """The devices that release tasks of the class, in order."""
        return read_only(self._one.dealing.devices)

    @property
    def every_device(self) -> bool:
        """Whether all devices release tasks of the class equally."""
        return not self._one.dealing.weighted

    @property
    def class_number(self) -> int:
        """The class of tasks, from 0."""
        return self._one.classes[0].number

    @property
    def class_name(self) -> str:
        """The name of the class of tasks; empty where the scenario names none."""
        return self._one.classes[0].name

    @property
    def priority(self) -> str:
        """The label of the class of tasks; it changes no order of service."""
        return self._one.classes[0].priority

    @property
    def deadline_s(self) -> float:
        """The time from the release of a task until it should have ended; infinite without one."""
        return self._one.classes[0].deadline_s

    @property
    def drop_late(self) -> bool:
        """Whether a task is dropped where its next service would begin after its deadline."""
        return self._one.classes[0].drop_late

    @property
    def retries(self) -> int:
        """How often a lost task is placed again, at most; of a run, the most of all classes."""
        return max(each.retries for each in self._model.classes)

    @property
    def _one(self) -> Model:
        """The model, where it has one class of tasks."""
        if len(self._model.classes) > 1:
            names = ", ".join(each.name for each in self._model.classes)
            raise SchedulerError(
                f"spec: has no blocks of its own, since there are classes of tasks ({names}). "
                "Expected: those of observation.spec, or of one of spec.classes"
            )
        return self._model

    @property
    def blocks(self) -> int:
        """M, the number of blocks of the DNN."""
        return self._one.blocks

    @property
    def most_blocks(self) -> int:
        """The largest number of blocks of a class of tasks."""
        return self._model.blocks

    @property
    def decision_epoch(self) -> Literal["per_slot", "per_task"]:
        """Whether a decision is for all tasks of a slot or for one task."""
        return self._model.scenario.decision_epoch

    @property
    def slot_length_s(self) -> float:
        """Length of a slot in seconds."""
        return self._model.scenario.slot_length

    @property
    def server_hz(self) -> Floats:
        """F_n, cycles per second of each core of every server; shape (N,).

        NaN where service times are measured.
        """
        return self._model.server_hz

    @cached_property
    def cores(self) -> Ints:
        """Cores of every server; shape (N,)."""
        return self._model.capacity[: self._model.servers]

    @property
    def device_hz(self) -> Floats:
        """f_d, cycles per second of every device; shape (D,).

        NaN where service times are measured.
        """
        return self._model.device_hz

    @property
    def radio(self) -> Radio:
        """The radio channel of the scenario."""
        return self._model.scenario.radio

    @property
    def links(self) -> Links:
        """The directed wired links."""
        return self._model.links

    @property
    def next_link(self) -> Ints:
        """Route tables, see :func:`mecsim.model.routes.next_links`; shape (K, N, N)."""
        return self._model.next_link

    def next_link_at(self, time_s: float, block: int) -> Ints:
        """Return the route table of a block's input at a time, around the links that are down.

        Args:
            time_s: The time.
            block: Number of the block, from 0; M for the result.

        Returns:
            See :func:`mecsim.model.detours.way_around`; shape (N, N).
        """
        one, usual = self._one, self.next_link[self.route[block]]
        if not len(one.failing_links):
            return usual
        down = ~self.available(time_s)[one.resources.link :]
        down &= np.isin(np.arange(len(down)), one.failing_links)
        if not down.any():
            return usual
        state = down.tobytes()
        if self._detours.get(-1) != state:  # tables of other states of the links are forgotten
            self._detours = {-1: state}
        if block not in self._detours:
            bits = float([*one.input_bits, *one.result_bits][block])
            self._detours[block] = around(one.links, bits, down, usual)
        return self._detours[block]

    @property
    def route(self) -> Ints:
        """The route table of each block's input and, last, of the result; shape (M + 1,)."""
        return self._one.route

    @property
    def cycles(self) -> Floats:
        """c_m, cycles of each block for a task of size factor 1; shape (M,).

        They give service times only at nodes by formula, and are NaN if the DNN does not say them.
        See :meth:`work_at_places` and :attr:`Observation.compute_s` for all nodes.
        """
        return self._one.cycles

    @property
    def parameter_bytes(self) -> Floats:
        """d_m, bytes of each block's parameters; shape (M,)."""
        return self._one.parameter_bytes

    @property
    def measured(self) -> bool:
        """Whether the service times of any nodes are measured."""
        return self._model.measured

    @property
    def shows_cycles(self) -> bool:
        """Whether features have the cycles of blocks, and not their measured times."""
        return self._model.shows_cycles

    def mean_compute_s(self, device: int | None = None) -> Floats:
        """Return the service time of each block of size factor 1 as a mean over the places.

        Args:
            device: The device that is place 0; None for the mean over all devices.

        Returns:
            Seconds; shape (M,).
        """
        compute, place = self._one.compute, np.array([-1 if device is None else device])
        network = np.zeros(1, dtype=np.int64)
        return compute.mean_over_places(compute.speed[None], network, place)[0]

    def work_at_places(self, device: int | None) -> tuple[Floats, Floats]:
        """Return the work of each block at each place, and the speed there (Eqs. 3 and 6).

        A block of a task with size factor s takes work · s / speed seconds.

        Args:
            device: The device that is place 0; None for the mean over all devices.

        Returns:
            Work of shape (N + 1, M) and work per second of shape (N + 1, 1).
        """
        if device is None:
            return self._work_at_mean_places
        return self._with_servers(np.array([self.servers + device]))

    @cached_property
    def _work_at_mean_places(self) -> tuple[Floats, Floats]:
        return self._with_servers(self.servers + self.releasing)

    def _with_servers(self, devices: Ints) -> tuple[Floats, Floats]:
        compute, servers = self._one.compute, slice(self.servers)
        work, speed = compute.mean_of(devices)
        at_servers = compute.work[compute.node_type[servers]]
        return (
            read_only(np.concatenate([work[None], at_servers])),
            read_only(np.append(speed, compute.speed[servers])[:, None]),
        )

    @cached_property
    def pooled_servers(self) -> tuple[float, float]:
        """Work of a task of size factor 1, and the speed of all servers' cores together."""
        return self._one.compute.pooled(np.arange(self.servers), self.cores)

    @property
    def input_bits(self) -> Floats:
        """I_m, bits of each block's input for a task of size factor 1; shape (M,)."""
        return self._one.input_bits

    @property
    def result_bits(self) -> float:
        """Bits of the result of a task of size factor 1."""
        return float(self._one.result_bits[0])

    @property
    def returns_result(self) -> bool:
        """Whether the result returns to the device, as part of the last block."""
        return self._model.scenario.return_result

    @property
    def tolerated_s(self) -> Floats:
        """τ_m, the deadline of each block in seconds; shape (M,)."""
        return self._one.tolerated_s

    @property
    def beta(self) -> float:
        """β, the weight of the deadline penalty in the reward (Eq. 14)."""
        return self._model.scenario.reward.beta

    @property
    def aggregation(self) -> Literal["mean", "sum"]:
        """Whether the reward is a mean over the tasks of a slot, or their sum."""
        return self._model.scenario.reward.aggregation

    @property
    def tasks_a_slot(self) -> float | None:
        """Mean number of tasks released in a slot; None where the tasks are recorded."""
        classes = self._model.scenario.classes
        recorded = any(isinstance(each.arrivals, RecordedTasks) for each in classes)
        return None if recorded else mean_rate(self._model)

    @property
    def transmit_power_w(self) -> Floats:
        """p, the transmit power of every device in watts; shape (D,)."""
        return self._model.power_w

    def device_xy_in(self, slot: int) -> Floats:
        """Return the position of every device at the start of a slot in metres; shape (D, 2)."""
        moving, xy = self._model.mobility, self._model.device_xy
        return xy if moving is None else read_only(moving.positions_in(slot, xy))

    def available(self, time_s: float) -> Bools:
        """Return which resources have no outage at a time; shape (N + 3·D + L,)."""
        return available(self._model.calendars, len(self._model.resources), time_s)

    @cached_property
    def scenario_sha256(self) -> str:
        """Hash of the scenario without its description and number of slots."""
        return self._run.scenario_sha256 if self._run else self._model.scenario.sha256_of_slots()

    def same_run(self, other: SchedulerSpec) -> bool:
        """Return whether another spec has the same seed and, except for its slots, scenario."""
        same_seed = self._model.seed == other._model.seed
        return same_seed and self.scenario_sha256 == other.scenario_sha256

    @cached_property
    def feature_scale(self) -> FeatureScale:
        """The encoding of :meth:`Observation.scaled_features`. Raises ``ScenarioError``."""
        return self._run.feature_scale if self._run else FeatureScale.of(self._model)

    @cached_property
    def empty_network(self) -> EmptyNetwork:
        """Delays and costs of blocks on a network without queues."""
        return EmptyNetwork(self._one)
