"""The observation of a decision epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from mecsim.model import equations
from mecsim.model.empty_network import Work, route_sums
from mecsim.scheduler.feature_scale import Scaled
from mecsim.scheduler.features import (
    ObservationTable,
    means_per_server,
    names_of_features,
)
from mecsim.scheduler.placement_checks import check_placements
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.support.arrays import Bools, Floats, Ints, read_only


class Outcomes(NamedTuple):
    """Outcomes of C placements, simulated until the network has drained; shape (C,) each."""

    cost: Floats
    """Minus the reward (Eq. 14) from now on, if no later tasks come."""
    failed: Ints
    """Tasks in flight that fail."""


class UnderWay(NamedTuple):
    """The n tasks that are released and have not ended, in order of their numbers."""

    release_s: Floats
    """Shape (n,)."""
    class_: Ints
    """Class of each task, from 0; shape (n,)."""
    device: Ints
    """Shape (n,)."""
    resource: Ints
    """Where each task waits or is in service, numbered as in ``backlog_s``; −1 where it is at no
    resource: on its way over a link with a latency, or about to be dropped; shape (n,)."""


PAST_SLOTS: Final = 100
"""Most slots of which an observation knows the radio rates."""

ALL: Final = slice(None)
"""All resources."""


class NetworkState(Protocol):
    """The queues and batteries of a network, as they are now. Results are new arrays."""

    def backlog_s(self, resources: slice = ALL) -> Floats:
        """Return the time that a job would wait if it joined each of the resources now."""
        ...

    def battery_j(self) -> Floats:
        """Return the remaining energy of each device's battery (Eq. 11); shape (D,)."""
        ...

    def queue_length(self) -> Ints:
        """Return the number of jobs that wait or are in service at each resource; shape (R,)."""
        ...

    def committed_s(self) -> Floats:
        """Return the services at each resource of tasks that were placed and are not released yet.

        Shape (R,).
        """
        ...

    def under_way(self) -> UnderWay:
        """Return the tasks that are released and have not ended."""
        ...


def lost_resources(network: NetworkState) -> Bools | None:
    """Return which resources are gone for good, because their nodes have ended; shape (R,).

    None if the network has no method ``lost``: it has no real nodes.
    """
    lost = getattr(network, "lost", None)  # isinstance of a protocol is slow
    return None if lost is None else cast(Bools | None, lost())


@dataclass(frozen=True, eq=False)
class Observation:
    """What a scheduler sees at a decision epoch. Every array is read-only.

    A backlog is the time in seconds that a job would wait if it joined the resource now. The state
    of the network is read on first use, so that an epoch costs no more in a large network than in
    a small one. An observation that is kept does not change: backlogs and batteries that have not
    been read are read before the network changes; queue lengths and committed work cannot be read
    later, except what features have of it.
    """

    spec: SchedulerSpec
    """The spec of the class of the tasks to place."""
    epoch: int
    """Number of the decision epoch."""
    time_s: float
    slot: int
    device: int | None
    """The device whose task is placed; None where the placement is for a whole slot."""
    tasks: float
    """Number of tasks to place, or the expected number where it is not known yet."""
    block_size: Floats
    """Size factor of every block, or one for all blocks; shape (M,) or (1,)."""
    parameter_bytes: Floats
    """d_m; shape (M,)."""
    rate_bps: Floats
    """Radio rate R_d of every device; shape (D,)."""
    serving_server: Ints
    """The server (0-based) with which each device is associated; shape (D,)."""
    network: NetworkState
    """Is read on first use; later it may be ahead of this epoch."""
    past_rates: Sequence[Floats] = ()
    """Radio rates of all devices in the last slots, this one last; shape (D,) each."""
    rollouts: Callable[[Ints], Outcomes] | None = None
    """See :meth:`what_if`."""

    def freeze(self) -> None:
        """Read backlogs and batteries, for the network is about to change."""
        _ = self.backlog_s, self.battery_j, self.cpu_committed_s
        if lost_resources(self.network) is not None:
            _ = self.available
        self.__dict__["_past"] = True

    @property
    def class_number(self) -> int:
        """The class of the tasks to place, from 0."""
        return self.spec.class_number

    @property
    def class_name(self) -> str:
        """The name of the class of the tasks to place; empty where the scenario names none."""
        return self.spec.class_name

    @cached_property
    def size_factor(self) -> float:
        """Mean over the epoch's tasks, or 1 where it is not known yet."""
        return _mean(self.block_size)

    @cached_property
    def cycles(self) -> Floats:
        """c_m, scaled by the size factor; shape (M,)."""
        return read_only(self.spec.cycles * self.block_size)

    @cached_property
    def mean_work(self) -> Floats:
        """What the features show of computing each block; shape (M,).

        Cycles or seconds as a mean over the places, see :attr:`SchedulerSpec.shows_cycles`.
        """
        if not self.spec.shows_cycles:
            return read_only(self.spec.mean_compute_s(self.device) * self.block_size)
        return self.cycles

    @cached_property
    def input_bits(self) -> Floats:
        """I_m, scaled by the size factor; shape (M,)."""
        return read_only(self.spec.input_bits * self.block_size)

    @cached_property
    def result_bits(self) -> float:
        """The result, scaled by the size factor (of the last block, if each has its own)."""
        return float(self.spec.result_bits * self.block_size[-1])

    @cached_property
    def backlog_s(self) -> Floats:
        """Of every resource: servers, devices, uplinks, downlinks, links; shape (N + 3·D + L,)."""
        return read_only(self.network.backlog_s())

    @cached_property
    def battery_j(self) -> Floats:
        """Remaining energy E^r of every device, infinite where unlimited (Eq. 11); shape (D,)."""
        return read_only(self.network.battery_j())

    @cached_property
    def queue_length(self) -> Ints:
        """Jobs that wait or are in service at every resource; shape (N + 3·D + L,).

        Raises:
            RuntimeError: It is read for the first time after the epoch.
        """
        self._check_present("queue_length")
        return read_only(self.network.queue_length())

    @cached_property
    def committed_s(self) -> Floats:
        """Services, by resource, of tasks that were placed at this instant by earlier epochs.

        They are not in the backlogs yet: a task joins its first queue after all decisions of the
        instant. A resource with c cores works them off c at a time. Shape (N + 3·D + L,).

        Raises:
            RuntimeError: It is read for the first time after the epoch.
        """
        self._check_present("committed_s")
        return read_only(self.network.committed_s())

    @cached_property
    def cpu_committed_s(self) -> Floats:
        """What features have of :attr:`committed_s`: that of servers and devices.

        In seconds in which all cores work it off; shape (N + D,), or (0,) where tasks are of one
        class.
        """
        spec = self.spec.run
        if len(spec.classes) == 1:
            return read_only(np.zeros(0))
        committed_s = self.committed_s[: spec.servers + spec.devices].copy()
        committed_s[: spec.servers] /= spec.cores
        return read_only(committed_s)

    @cached_property
    def under_way(self) -> UnderWay:
        """The tasks that are released and have not ended: what is in the queues of the network.

        Raises:
            RuntimeError: It is read for the first time after the epoch.
        """
        self._check_present("under_way")
        tasks = self.network.under_way()
        return UnderWay(
            read_only(tasks.release_s),
            read_only(tasks.class_),
            read_only(tasks.device),
            read_only(tasks.resource),
        )

    @cached_property
    def slack_s(self) -> Floats:
        """Time until the deadline of each task under way, below 0 if it has passed; shape (n,).

        Infinite for tasks of classes without a ``deadline``. The order is that of
        :attr:`under_way`.
        """
        deadline_s = np.array([each.deadline_s for each in self.spec.run.classes])
        tasks = self.under_way
        return read_only(tasks.release_s + deadline_s[tasks.class_] - self.time_s)

    @cached_property
    def device_xy(self) -> Floats:
        """Position of every device in metres, that at the start of the slot; shape (D, 2)."""
        return self.spec.device_xy_in(self.slot)

    def past_rate_bps(self, slots: int = 10) -> Floats:
        """Return the mean radio rate of every device over the last slots, this one included.

        At the beginning of a run the mean is over the slots that there are.

        Args:
            slots: Number of slots, from 1 to :data:`PAST_SLOTS`.

        Returns:
            Shape (D,).

        Raises:
            ValueError: The number is out of range.
        """
        if not 1 <= slots <= PAST_SLOTS:
            raise ValueError(f"past_rate_bps: slots is {slots}; allowed: 1 to {PAST_SLOTS}")
        rates = list(self.past_rates[-slots:]) or [self.rate_bps]
        return read_only(np.add.reduce(rates) / len(rates))

    def _check_present(self, name: str) -> None:
        if "_past" in self.__dict__:
            raise RuntimeError(
                f"{name}: the network has changed since epoch {self.epoch}. "
                "Try: read it in decide()"
            )

    @cached_property
    def server_backlog_s(self) -> Floats:
        """Shape (N,)."""
        return self._backlog_s(slice(self.spec.servers))

    @cached_property
    def device_backlog_s(self) -> Floats:
        """Shape (D,)."""
        return self._of_devices(0)

    @cached_property
    def uplink_backlog_s(self) -> Floats:
        """Shape (D,)."""
        return self._of_devices(1)

    @cached_property
    def downlink_backlog_s(self) -> Floats:
        """Shape (D,)."""
        return self._of_devices(2)

    @cached_property
    def link_backlog_s(self) -> Floats:
        """Shape (L,)."""
        return self._backlog_s(slice(self.spec.servers + 3 * self.spec.devices, None))

    def _of_devices(self, kind: int) -> Floats:
        first = self.spec.servers + kind * self.spec.devices
        return self._backlog_s(slice(first, first + self.spec.devices))

    def _backlog_s(self, resources: slice) -> Floats:
        """Return backlogs of some resources; reads only those, if not all have been read."""
        if "backlog_s" in self.__dict__:
            return self.backlog_s[resources]
        return read_only(self.network.backlog_s(resources))

    @property
    def _devices(self) -> Ints | slice | list[int]:
        """The task's device or, for a slot, those that release tasks of the class."""
        if self.device is not None:
            return [self.device]
        return slice(None) if self.spec.every_device else self.spec.releasing

    @cached_property
    def place_backlog_s(self) -> Floats:
        """Backlog of every place; shape (N + 1,).

        Place 0 is the task's device or, for a slot, the mean over all devices. A place that is down
        has an infinite backlog, unless all are: then each has its own.
        """
        if self.device is None:
            device = _mean(self.device_backlog_s[self._devices])
        else:
            row = self.spec.servers + self.device
            device = float(self._backlog_s(slice(row, row + 1))[0])
        backlog_s = np.concatenate([[device], self.server_backlog_s])
        if self.available.all():
            return read_only(backlog_s)
        up = np.append(self.device_available[self._devices].any(), self.server_available)
        return read_only(np.where(up, backlog_s, np.inf) if up.any() else backlog_s)

    @cached_property
    def available(self) -> Bools:
        """Which resources are up now, numbered as in ``backlog_s``; shape (N + 3·D + L,)."""
        available = self.spec.available(self.time_s)
        lost = lost_resources(self.network)
        if lost is not None:
            available &= ~lost
        return read_only(available)

    @property
    def server_available(self) -> Bools:
        """Which servers are up; shape (N,)."""
        return self.available[: self.spec.servers]

    @property
    def device_available(self) -> Bools:
        """Which devices are up; shape (D,)."""
        first = self.spec.servers
        return self.available[first : first + self.spec.devices]

    @property
    def link_available(self) -> Bools:
        """Which wired links are up; shape (L,)."""
        return self.available[self.spec.servers + 3 * self.spec.devices :]

    @cached_property
    def compute_s(self) -> Floats:
        """Seconds to compute each block at each place; shape (N + 1, M) (Eqs. 3 and 6)."""
        work, speed = self.spec.work_at_places(self.device)
        return read_only(np.asarray(equations.compute_delay(work * self.block_size, speed)))

    @cached_property
    def load_s(self) -> Floats:
        """Backlog that the epoch's tasks add by each block at each place; shape (N + 1, M)."""
        devices = 1 if self.device is not None else len(self.spec.releasing)
        sharing = np.concatenate([[devices], self.spec.cores])[:, None]
        return read_only(self.compute_s * self.tasks / sharing)

    @cached_property
    def mean_rate_bps(self) -> float:
        """Radio rate of the task's device or, for a slot, the harmonic mean over all devices."""
        return 1.0 / _mean(1.0 / self.rate_bps[self._devices])

    def radio_s(self, bits: equations.Real) -> equations.Real:
        """Return the seconds that a transfer of some bits takes over the radio, without waiting."""
        radio = self.spec.radio
        return equations.transfer_delay(bits, self.mean_rate_bps, radio.headers, radio.overhead)

    @cached_property
    def server_rate_bps(self) -> Floats:
        """Mean radio rate of the devices of every server, 0 where it has none; shape (N,)."""
        return read_only(self._per_server(self.rate_bps))

    def wired_s(self, block: int, source: Ints) -> Floats:
        """Return the time of a block's input over the wired network, from some servers to all.

        Args:
            block: Number of the block, from 0; M for the result.
            source: Servers from which the input is sent, 0-based; shape (n,).

        Returns:
            Seconds, backlogs of the links on the way included; shape (n, N). Ways go around links
            that are down, as the tasks released now do.
        """
        links, table = self.spec.links, self.spec.next_link_at(self.time_s, block)
        bits = self.input_bits[block] if block < self.spec.blocks else self.result_bits
        hop_s = links.seconds(bits) + self.link_backlog_s
        return route_sums(links, table, hop_s, source)

    def what_if(self, placements: ArrayLike) -> Outcomes:
        """Simulate C placements of this epoch from the present state until all tasks have ended.

        The class of the scheduler must set :attr:`Scheduler.uses_rollouts`. Tasks that are not
        known yet are replaced by the expected ones, spread evenly over the slot.

        Args:
            placements: Shape (C, M).

        Returns:
            The outcome of every placement.

        Raises:
            PlacementError: A placement is invalid.
        """
        if self.rollouts is None:
            raise TypeError("what_if: the scheduler's class must set `uses_rollouts = True`")
        return self.rollouts(
            check_placements(placements, self.spec, "what_if: the array", placement=None)
        )

    @cached_property
    def empty_network_cost_s(self) -> Floats:
        """Cost of block m at place j after block m − 1 at place i; shape (M, N + 1, N + 1).

        L + β·max(L − τ, 0) (Eqs. 13 and 14) without queueing, whatever the backlogs are: of the
        task's device or, for a slot, the mean over all devices. The cost of the last block
        includes the result's return. For the first block, whose input is at the device, use row 0.
        """
        network = self.spec.empty_network
        devices = np.arange(self.spec.devices)[self._devices]
        size = np.repeat(self.block_size[:, None], len(devices), axis=1)
        work = Work(devices, self.serving_server[devices], self.rate_bps[devices], size)
        sums = [network.costs(work[piece]).sum(axis=-1) for piece in network.pieces(len(work))]
        return read_only(np.add.reduce(sums) / len(work))

    def _per_server(self, values: Floats) -> Floats:
        """Return the mean over the devices of every server, 0 where it has none; shape (N,)."""
        return means_per_server(values, self.serving_server, self.spec.servers)

    def features(self) -> Floats:
        """Return the observation as one vector in SI units, named by :func:`feature_names`.

        The energy of unlimited batteries is infinite. See also :meth:`scaled_features`.
        """
        return observation_table([self]).features()[0]

    def scaled_features(self) -> Scaled:
        """Return the vector that the environments of :mod:`mecsim.env` give for this epoch.

        Returns:
            Features divided by their scales, all finite, see :mod:`mecsim.scheduler.feature_scale`;
            32-bit floats of shape (features,).

        Raises:
            ScenarioError: Tasks come from a trace, and an epoch is a slot.
        """
        return self.spec.feature_scale(self.features())


def observation_table(observations: Sequence[Observation]) -> ObservationTable:
    """Return observations of one run as a table, a row each."""
    spec, count = observations[0].spec.run, len(observations)
    work = np.zeros((count, 3, spec.most_blocks))
    for row, o in zip(work, observations, strict=True):
        row[:, : o.spec.blocks] = o.mean_work, o.parameter_bytes, o.input_bits
    return ObservationTable(
        tasks=np.array([(o.tasks, o.size_factor) for o in observations]),
        blocks=work.reshape(count, -1),
        rate_bps=np.stack([o.rate_bps for o in observations]),
        backlog_s=np.stack([o.backlog_s for o in observations]),
        battery_j=np.stack([o.battery_j for o in observations]),
        serving_server=np.stack([o.serving_server for o in observations]),
        link_source=spec.links.source.copy(),
        device=np.array([-1 if o.device is None else o.device for o in observations]),
        servers=spec.servers,
        class_=np.array([o.class_number for o in observations]),
        classes=len(spec.classes),
        committed_s=np.stack([o.cpu_committed_s for o in observations]),
    )


def _mean(values: Floats) -> float:
    return float(np.add.reduce(values)) / len(values)  # a tenth of the time of values.mean()


def feature_names(spec: SchedulerSpec) -> list[str]:
    """Return the names of the features of an observation, in order.

    For a slot, features of devices are means per server; for a task, those of its device. Where
    tasks are of several classes, those with fewer blocks than others have zeros for the rest, and
    the last features are 1 for the class of the tasks and 0 for the others. Before them is the
    committed work of CPUs, in seconds of all cores.
    """
    spec = spec.run
    return names_of_features(
        spec.servers,
        spec.most_blocks,
        spec.decision_epoch,
        cycles=spec.shows_cycles,
        classes=[each.class_name for each in spec.classes],
    )
