"""Constants of a model, as the compiled code reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints


class KernelTables(NamedTuple):
    """What compiled functions read of a model; see :class:`mecsim.model.model.Model`.

    Arrays over blocks hold the B blocks of all C classes, class after class. K networks, drawn
    under one seed each, share all other constants.
    """

    first_block: Ints
    """Row of the first block of every class, and B; shape (C + 1,)."""
    class_of_block: Ints
    """Shape (B,)."""
    node_type: Ints
    """Type of every node, see :class:`mecsim.model.compute_table.ComputeTable`; shape (N + D,)."""
    work: Floats
    """Of every block at each of T types of nodes; shape (T, B)."""
    energy_work: Floats
    """Shape (T, B)."""
    joules_per_work: Floats
    """Of every node; shape (K, N + D)."""
    bits: Floats
    """Input of every block, and last the result, class after class; shape (B + C,)."""
    tolerated_s: Floats
    """Deadline τ_m; shape (B,)."""
    deadline_s: Floats
    """Deadline of a whole task of each class, infinite without one; shape (C,)."""
    route: Ints
    """Route table of every entry of ``bits``; shape (B + C,)."""
    next_link: Ints
    link_source: Ints
    link_target: Ints
    link_latency_s: Floats
    failing_links: Ints
    """See :attr:`mecsim.model.model.Model.failing_links`; shape (F,)."""
    radio_bps: Floats
    """Nominal radio rate of the devices whose rate follows a series, NaN of the others, whose rate
    is that of the slot; shape (D,), or (0,) if no device follows one."""
    speed: Floats
    """Of every resource; shape (K, R)."""
    servers: int
    device: int
    """Number of the first device's CPU; the next three: of the first uplink, downlink, link."""
    uplink: int
    downlink: int
    link: int
    radio_headers: float
    """Bits of headers for each bit that is sent."""
    radio_overhead_s: float
    """Seconds that each transfer takes besides its bits."""
    link_headers: float
    link_overhead_s: float
    literal_eq7: bool
    """Whether every transfer costs the device energy, as Eq. 7 prints it, or only the uplink's."""
    returns_result: bool
    beta: float
    averages: bool
    """Whether the reward is a mean over the tasks of a slot, or their sum."""
    power_w: Floats
    """Transmit power of every device; shape (D,)."""

    @classmethod
    def of(cls, model: Model, networks: int = 1) -> KernelTables:
        """Return the tables of a model, with rows for ``networks`` networks like its own."""
        resources, scenario, compute = model.resources, model.scenario, model.compute
        return cls(
            first_block=model.first_block,
            class_of_block=np.repeat(np.arange(len(model.classes)), np.diff(model.first_block)),
            node_type=compute.node_type,
            work=compute.work,
            energy_work=compute.energy_work,
            joules_per_work=np.tile(compute.joules_per_work, (networks, 1)),
            bits=np.insert(model.input_bits, model.first_block[1:], model.result_bits),
            tolerated_s=model.tolerated_s,
            deadline_s=np.array([each.deadline_s for each in model.classes]),
            route=model.route,
            next_link=model.next_link,
            link_source=model.links.source,
            link_target=model.links.target,
            link_latency_s=model.links.latency_s,
            failing_links=model.failing_links,
            radio_bps=model.radio_bps,
            speed=np.tile(model.speed, (networks, 1)),
            servers=model.servers,
            device=resources.device,
            uplink=resources.uplink,
            downlink=resources.downlink,
            link=resources.link,
            radio_headers=scenario.radio.headers,
            radio_overhead_s=scenario.radio.overhead,
            link_headers=model.links.headers,
            link_overhead_s=model.links.overhead_s,
            literal_eq7=scenario.energy.literal_eq7,
            returns_result=scenario.return_result,
            beta=scenario.reward.beta,
            averages=scenario.reward.aggregation == "mean",
            power_w=model.power_w,
        )
