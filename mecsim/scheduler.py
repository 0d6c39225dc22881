"""The face of a scheduler: what it sees, what it returns, and a check that it keeps to it.

A scheduler needs nothing else of mecsim::

    class Nearest(Scheduler):
        '''Everything at the associated server of the first device.'''

        def decide(self, observation):
            return [int(self.spec.access[0]) + 1] * self.spec.blocks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mecsim.arrays import Floats, Ints, read_only
from mecsim.empty_network import EmptyNetwork, Work, route_sums
from mecsim.empty_network import cheapest_chain as cheapest_chain  # schedulers take it from here
from mecsim.errors import PlacementError
from mecsim.features import Seen, features, means_per_server
from mecsim.model import Model
from mecsim.network import Links
from mecsim.scenario import Scenario
from mecsim.streams import stream

Placement: TypeAlias = Sequence[int] | NDArray[np.integer]
"""One place a block, in {0, …, N}: 0 the task's own device, n edge server n (Eq. 2)."""


@dataclass(frozen=True)
class SchedulerSpec:
    """What does not change during a run: N servers, D devices, M blocks, L wired links."""

    blocks: int
    """M."""
    epoch: Literal["slot", "task"]
    """Whether a decision is for all tasks of a slot or for one task."""
    slot_length_s: float
    server_hz: Floats
    """Cycles a second of each server's cores; shape (N,)."""
    cores: Ints
    """Cores of each server; shape (N,)."""
    device_hz: Floats
    """Shape (D,)."""
    access: Ints
    """Each device's associated server, 0-based; shape (D,)."""
    links: Links
    """The directed wired links."""
    cycles: Floats
    """c_m of a task of size factor 1; shape (M,)."""
    input_bits: Floats
    """I_m of a task of size factor 1; shape (M,)."""
    result_bits: float
    """The result of a task of size factor 1."""
    returns_result: bool
    """Whether the result goes back to the device, as part of the last block."""
    tolerated_s: Floats
    """τ_m; shape (M,)."""
    beta: float
    """Weight of the penalty in the reward (Eq. 14)."""
    transmit_power_w: float
    next_link: Ints
    """Route tables, see :func:`mecsim.network.next_links`; shape (K, N, N)."""
    route: Ints
    """The route table that each block's input uses, and last the result; shape (M + 1,)."""
    rng: np.random.Generator
    """The scheduler's own stream of random numbers."""
    _scenario: Scenario = field(repr=False)

    @cached_property
    def scenario_sha256(self) -> str:
        """Hash of the scenario but for its description and number of slots."""
        return self._scenario.sha256_of_slots()

    @property
    def servers(self) -> int:
        """N."""
        return len(self.server_hz)

    @property
    def devices(self) -> int:
        """D."""
        return len(self.device_hz)

    @cached_property
    def empty_network(self) -> EmptyNetwork:
        """What blocks cost where nothing waits."""
        return EmptyNetwork(
            server_hz=self.server_hz,
            device_hz=self.device_hz,
            access=self.access,
            links=self.links,
            next_link=self.next_link,
            route=self.route,
            tolerated_s=self.tolerated_s,
            beta=self.beta,
            returns_result=self.returns_result,
        )

    @classmethod
    def of(cls, model: Model) -> SchedulerSpec:
        """Return what a scheduler may know of a model."""
        return cls(
            blocks=model.blocks,
            epoch=model.scenario.epoch,
            slot_length_s=model.scenario.slot_length,
            server_hz=model.server_hz,
            cores=model.capacity[: model.servers],
            device_hz=model.device_hz,
            access=model.access,
            links=model.links,
            next_link=model.next_link,
            route=model.route,
            cycles=model.cycles,
            input_bits=model.input_bits,
            result_bits=model.result_bits,
            returns_result=model.scenario.return_result,
            tolerated_s=model.tolerated_s,
            beta=model.scenario.reward.beta,
            transmit_power_w=model.scenario.radio.transmit_power,
            rng=stream(model.seed, "scheduler"),
            _scenario=model.scenario,
        )


class Outcomes(NamedTuple):
    """What C placements would lead to until the network has drained; shape (C,) each."""

    cost: Floats
    """Minus the reward (Eq. 14) from now on, if nothing else comes."""
    failed: Ints
    """Tasks that end as failed."""


@dataclass(frozen=True)
class Observation:
    """What a scheduler sees at a decision epoch. Every array is read-only.

    Backlogs are in seconds: how long a job that joined the resource now would wait.
    """

    spec: SchedulerSpec
    epoch: int
    """Number of the decision epoch."""
    time_s: float
    slot: int
    device: int | None
    """The device whose task is to be placed; None where the placement is for a whole slot."""
    tasks: float
    """Tasks that the placement is for: their number where it is known, else the expected one."""
    size_factor: float
    """Mean over the epoch's tasks where it is known when the epoch comes, else 1."""
    cycles: Floats
    """c_m, scaled by the size factor; shape (M,)."""
    parameter_bytes: Floats
    """d_m; shape (M,)."""
    input_bits: Floats
    """I_m, scaled by the size factor; shape (M,)."""
    result_bits: float
    """The result, scaled by the size factor (of the last block, if each has its own)."""
    rate_bps: Floats
    """Radio rate R_d of every device; shape (D,)."""
    server_backlog_s: Floats
    """Shape (N,)."""
    device_backlog_s: Floats
    """Shape (D,)."""
    uplink_backlog_s: Floats
    """Shape (D,)."""
    downlink_backlog_s: Floats
    """Shape (D,)."""
    link_backlog_s: Floats
    """Shape (L,)."""
    battery_j: Floats
    """Remaining energy E^r of every device, infinite where unlimited (Eq. 11); shape (D,)."""
    explorer: Callable[[Ints], Outcomes] | None = None
    """See :meth:`what_if`."""

    @property
    def _devices(self) -> slice | list[int]:
        return slice(None) if self.device is None else [self.device]

    @cached_property
    def place_backlog_s(self) -> Floats:
        """Backlog of every place; shape (N + 1,).

        Place 0 is the task's device or, for a slot, the mean over all devices.
        """
        device = _mean(self.device_backlog_s[self._devices])
        return read_only(np.concatenate([[device], self.server_backlog_s]))

    @cached_property
    def compute_s(self) -> Floats:
        """Seconds to compute each block at each place; shape (N + 1, M) (Eqs. 3 and 6)."""
        device_hz = 1.0 / _mean(1.0 / self.spec.device_hz[self._devices])
        return read_only(self.cycles / np.append(device_hz, self.spec.server_hz)[:, None])

    @cached_property
    def load_s(self) -> Floats:
        """Backlog that the epoch's tasks add by each block at each place; shape (N + 1, M)."""
        devices = 1 if self.device is not None else self.spec.devices
        sharing = np.concatenate([[devices], self.spec.cores])[:, None]
        return read_only(self.compute_s * self.tasks / sharing)

    @cached_property
    def mean_rate_bps(self) -> float:
        """Radio rate of the task's device or, for a slot, the harmonic mean over all devices."""
        return 1.0 / _mean(1.0 / self.rate_bps[self._devices])

    @cached_property
    def server_rate_bps(self) -> Floats:
        """Mean radio rate of the devices of every server, 0 where it has none; shape (N,)."""
        return self._per_server(self.rate_bps)

    def wired_s(self, block: int, source: Ints) -> Floats:
        """Return the time of block ``block``'s input over the wired network.

        From each server in ``source`` to every server, backlogs of the links on the way included;
        shape (len(source), N).
        """
        links, table = self.spec.links, self.spec.next_link[self.spec.route[block]]
        hop_s = self.input_bits[block] / links.rate_bps + links.latency_s + self.link_backlog_s
        return route_sums(links, table, hop_s, source)

    def what_if(self, placements: ArrayLike) -> Outcomes:
        """Simulate what C placements would lead to, from the network as it is; shape (C, M).

        Only for schedulers that say so, see :attr:`Scheduler.explores`. Where this epoch's tasks
        are not known yet, as many as expected are supposed to come evenly. Raises
        ``PlacementError``.
        """
        if self.explorer is None:
            raise TypeError("what_if: the scheduler's class must set `explores = True`")
        return self.explorer(check_placements(placements, self.spec, "what_if: placement"))

    @cached_property
    def empty_network_cost_s(self) -> Floats:
        """Cost of block m at place j after block m − 1 at place i; shape (M, N + 1, N + 1).

        L + β·max(L − τ, 0) (Eqs. 13 and 14) where nothing waits, whatever the backlogs are. Of the
        task's device or, for a slot, the mean over all devices. The last block's includes the
        result's return; of the first block, whose input is at the device, only row 0 counts.
        """
        network = self.spec.empty_network
        devices = np.arange(self.spec.devices)[self._devices]
        cycles, bits = (
            np.repeat(values[:, None], len(devices), axis=1)
            for values in (self.cycles, np.append(self.input_bits, self.result_bits))
        )
        work = Work(devices, self.rate_bps[devices], cycles, bits)
        sums = [network.costs(work[piece]).sum(axis=-1) for piece in network.pieces(len(work))]
        return read_only(np.add.reduce(sums) / len(work))

    def _per_server(self, values: Floats) -> Floats:
        """Return the mean over the devices of every server, 0 where it has none; shape (N,)."""
        return means_per_server(values, self.spec.access, self.spec.servers)

    def features(self) -> Floats:
        """Return the observation as one vector, named by :func:`feature_names`."""
        backlogs = (
            self.server_backlog_s,
            self.device_backlog_s,
            self.uplink_backlog_s,
            self.downlink_backlog_s,
            self.link_backlog_s,
        )
        work = [self.cycles, self.parameter_bytes, self.input_bits]
        return features(
            Seen(
                tasks=np.array([[self.tasks, self.size_factor]]),
                blocks=np.concatenate(work)[None, :],
                rate_bps=self.rate_bps[None, :].copy(),
                backlog_s=np.concatenate(backlogs)[None, :],
                battery_j=self.battery_j[None, :].copy(),
                access=self.spec.access[None, :].copy(),
                link_source=self.spec.links.source.copy(),
                device=np.array([-1 if self.device is None else self.device]),
                servers=self.spec.servers,
            )
        )[0]


def _mean(values: Floats) -> float:
    return float(np.add.reduce(values)) / len(values)  # a tenth of the time of values.mean()


def feature_names(spec: SchedulerSpec) -> list[str]:
    """Return the names of the features of an observation, in order.

    For a slot, what concerns devices is their mean at each server; for a task, that of its device.
    """
    servers = [f"es{n + 1}" for n in range(spec.servers)]
    blocks = ("cycles", "parameter_bytes", "input_bits")
    radio = ("rate_bps", "device_backlog_s", "uplink_backlog_s", "downlink_backlog_s")
    if spec.epoch == "slot":
        devices = [f"{es}.mean_{name}" for name in radio for es in servers] + ["mean_battery_J"]
    else:
        devices = [f"device.{name}" for name in (*radio, "battery_J", "access")]
    return [
        "tasks",
        "size_factor",
        *(f"block{m}.{name}" for name in blocks for m in range(spec.blocks)),
        *(f"{es}.{name}" for name in ("cpu_backlog_s", "links_out_backlog_s") for es in servers),
        *devices,
    ]


class Scheduler(ABC):
    """Decides where every block of every task runs.

    The first line of a subclass's docstring is its description in ``mecsim schedulers``. Its
    options are the keyword arguments of ``__init__``, with type annotations and defaults; they
    are set from the command line with ``--option KEY=VALUE``.
    """

    constant: ClassVar[bool] = False
    """Whether decisions depend on nothing that changes during a run.

    Then :meth:`decide` is asked only once (where epochs are tasks, once for each device), which
    makes runs without a trace faster.
    """

    explores: ClassVar[bool] = False
    """Whether decisions use :meth:`Observation.what_if`, which takes a copy of the network."""

    def __init__(self, spec: SchedulerSpec) -> None:
        self.spec = spec

    @abstractmethod
    def decide(self, observation: Observation) -> Placement:
        """Return a place in {0, …, N} for each of the M blocks (Eq. 2)."""

    def epoch_ended(self, observation: Observation, placement: Ints, reward: float) -> None:
        """Learn from an epoch: called when it is over, with its reward (Eq. 14).

        Only schedulers that override it pay for computing the reward.
        """

    def run_ended(self) -> None:
        """Learn from a run: called once when all tasks have ended."""


def check_placement(
    placement: ArrayLike, spec: SchedulerSpec, scheduler: str, epoch: int, device: int | None
) -> Ints:
    """Return a scheduler's answer as an array of shape (M,), or say what is wrong with it.

    Raises ``PlacementError`` that names the scheduler, the epoch and the block; nothing is ever
    rounded or clipped.
    """
    of = "" if device is None else f", device {device}"
    who = f"scheduler {scheduler!r}, epoch {epoch}{of}: the placement"
    try:
        places = np.asarray(placement)
    except ValueError as error:
        raise PlacementError(f"{who} is not a list of places: {error}") from error
    if places.dtype.kind not in "iu":
        raise PlacementError(f"{who} {_short(placement)} holds {places.dtype}; allowed: integers")
    if places.shape != (spec.blocks,):
        shape = f"({spec.blocks},), one place a block"
        raise PlacementError(f"{who} has the shape {places.shape}; allowed: {shape}")
    wrong = np.flatnonzero((places < 0) | (places > spec.servers))
    if wrong.size:
        block = int(wrong[0])
        allowed = f"0 (the device) to {spec.servers}"
        raise PlacementError(f"{who} puts block {block} at {places[block]}; allowed: {allowed}")
    return read_only(places.astype(np.int64))


def check_placements(placements: ArrayLike, spec: SchedulerSpec, each: str) -> Ints:
    """Return placements as an array of shape (C, M), or say what is wrong with them.

    Raises ``PlacementError``, in which a placement is called ``each`` and its row.
    """
    try:
        places = np.asarray(placements)
    except ValueError as error:
        raise PlacementError(f"{each}s are not lists of places: {error}") from error
    if places.ndim != 2 or places.shape[1] != spec.blocks:
        shape = f"(number of placements, {spec.blocks})"
        raise PlacementError(f"{each}s have the shape {places.shape}; allowed: {shape}")
    if places.dtype.kind not in "iu":
        raise PlacementError(f"{each}s hold {places.dtype}; allowed: integers")
    wrong = np.argwhere((places < 0) | (places > spec.servers))
    if len(wrong):
        row, block = wrong[0].tolist()
        allowed = f"0 (the device) to {spec.servers}"
        at = f"{each} {row} puts block {block} at {places[row, block]}"
        raise PlacementError(f"{at}; allowed: {allowed}")
    return np.array(places, dtype=np.int64, order="C")  # of one layout, for the compiler


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
