"""The settings that the calibration searches, and their scenarios."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mecsim.scenario import shipped
from mecsim.scenario.loading import load, with_overrides
from mecsim.scenario.schema import Scenario

Pattern: TypeAlias = Literal["alike", "rising", "falling", "alternating"]

SERVERS: Final = 9
"""Servers in a list of capacities: the paper sweeps N from 2 to 9, and the first N are used."""
STARTS_GHZ: Final = tuple(5 + 0.5 * k for k in range(11))
STEPS_GHZ: Final = (0.1, 0.2, 0.3)
TOLERATED_S: Final = 4.0
"""The middle of the paper's range of 1 to 7 s."""
SIZES: Final = tuple(0.8 + 0.4 * (k + 0.5) / 3 for k in range(3))
"""Size factors that stand for the uniform distribution over [0.8, 1.2]: midpoints of its thirds."""


@dataclass(frozen=True)
class Setting:
    """Numbers that the paper leaves out, and a point of its sweeps.

    Only ratios of cycles a FLOP and speeds matter to delays, so the grid has devices of 1 GHz.
    """

    cycles_per_flop: float
    tolerated_s: float
    """Deadline τ of every block."""
    pattern: Pattern
    start_ghz: float
    """Capacity of the slowest server."""
    step_ghz: float = 0.0
    """Difference between neighbours in the list of capacities."""
    device_ghz: float = 1.0
    devices: int = 30
    beta: float = 1.0
    radio_rate: str = ""
    """Radio rate as in a scenario; empty for the channel model."""
    sizes: tuple[float, ...] = SIZES
    """Size factors of slots, equally likely."""
    edge_servers: int = 4
    rate: int = 60
    """Tasks a slot."""
    blocks: int | None = None
    """M of a balanced cut; None for the six stages."""

    @property
    def server_ghz(self) -> tuple[float, ...]:
        """Capacities of the servers in their order."""
        ranks = {
            "alike": [0],
            "rising": range(SERVERS),
            "falling": range(SERVERS - 1, -1, -1),
            "alternating": [0, 1],
        }[self.pattern]
        return tuple(round(self.start_ghz + rank * self.step_ghz, 6) for rank in ranks)

    def scenario(self, size: float = 1.0) -> Scenario:
        """Return the scenario of one slot with tasks of size factor 1 and deadlines of τ / size.

        Every hop of a task of size s takes s times as long as one of size 1, and all tasks of a
        slot are of one size. So a slot of size s costs s times as much as a slot of size 1 whose
        deadlines are divided by s, and its delays and energies are s times as large.
        """
        capacities = ", ".join(f"{each:g} GHz" for each in self.server_ghz)
        changes = [
            "slots=1",
            "slot_length=1000 s",  # long enough to drain
            "size_factor={distribution: constant}",
            f"dnn.cycles_per_flop={self.cycles_per_flop!r}",
            f"dnn.max_tolerated_delay={self.tolerated_s / size!r} s",
            f"edge_servers={self.edge_servers}",
            f"edge_server.capacity={{repeat: [{capacities}]}}",
            f"devices={self.devices}",
            f"device.capacity={self.device_ghz:g} GHz",
            f"arrivals.rate={self.rate}",
            f"reward.beta={self.beta!r}",
        ]
        changes += [f"radio.rate={self.radio_rate}"] if self.radio_rate else []
        changes += [] if self.blocks is None else ["dnn.cut=balanced", f"dnn.blocks={self.blocks}"]
        return load(shipped.path("vgg16_4es"), changes)

    def episode(self) -> Scenario:
        """Return the scenario of an episode of 600 slots, with sizes uniform over [0.8, 1.2]."""
        sizes = "size_factor={distribution: uniform, low: 0.8, high: 1.2, per: slot}"
        return with_overrides(self.scenario(), ["slots=600", sizes])

    def __str__(self) -> str:
        low, high = min(self.server_ghz), max(self.server_ghz)
        servers = f"{low:g} GHz" if low == high else f"{low:g} to {high:g} GHz"
        return (
            f"{self.cycles_per_flop:g} cycles a FLOP, τ = {self.tolerated_s:g} s, "
            f"servers {self.pattern}, {servers}"
        )


def grid() -> Iterator[Setting]:
    """Yield all lists of servers; the cycles a FLOP are to be fitted."""
    for start_ghz in STARTS_GHZ:
        yield Setting(1.0, TOLERATED_S, "alike", start_ghz)
        for pattern in ("rising", "falling", "alternating"):
            for step_ghz in STEPS_GHZ:
                yield Setting(1.0, TOLERATED_S, pattern, start_ghz, step_ghz)
