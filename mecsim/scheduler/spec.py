"""The static description of a run that a scheduler receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.model.empty_network import EmptyNetwork
from mecsim.model.model import Model
from mecsim.model.random_streams import stream
from mecsim.model.topology import Links
from mecsim.scenario.schema import Scenario
from mecsim.support.arrays import Floats, Ints

Placement: TypeAlias = Sequence[int] | NDArray[np.integer]
"""One place a block, in {0, …, N}: 0 the task's own device, n edge server n (Eq. 2)."""


@dataclass(frozen=True)
class SchedulerSpec:
    """What does not change during a run: N servers, D devices, M blocks, L wired links."""

    blocks: int
    """M."""
    decision_epoch: Literal["per_slot", "per_task"]
    """Whether a decision is for all tasks of a slot or for one task."""
    slot_length_s: float
    server_hz: Floats
    """Cycles a second of each server's cores; shape (N,)."""
    cores: Ints
    """Cores of each server; shape (N,)."""
    device_hz: Floats
    """Shape (D,)."""
    serving_server: Ints
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
    """Route tables, see :func:`mecsim.model.topology.next_links`; shape (K, N, N)."""
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
            serving_server=self.serving_server,
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
            decision_epoch=model.scenario.decision_epoch,
            slot_length_s=model.scenario.slot_length,
            server_hz=model.server_hz,
            cores=model.capacity[: model.servers],
            device_hz=model.device_hz,
            serving_server=model.serving_server,
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
