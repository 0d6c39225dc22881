"""What the controller needs of the nodes, however they are reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mecsim.testbed.messages import Message


class NodeEnded(NamedTuple):
    """The process of a node has ended, or its connection is broken."""

    reason: str


class Event(NamedTuple):
    """Something that a node reports, or its end."""

    name: str
    what: Message | NodeEnded


@dataclass(frozen=True)
class ScenarioClock:
    """The time of the scenario on the clock of the controller."""

    origin_at: float
    """When the scenario begins."""
    stretch: float
    """Real seconds for one second of the scenario."""
    now: Callable[[], float] = time.monotonic
    """Reads the clock."""

    def seconds(self, at: float) -> float:
        """Return the time of the scenario at a reading of the clock."""
        return (at - self.origin_at) / self.stretch

    def reading(self, time_s: float) -> float:
        """Return the reading of the clock at a time of the scenario."""
        return self.origin_at + time_s * self.stretch


class NodePool(Protocol):
    """The nodes of a testbed."""

    def send(self, names: Iterable[str], message: Message) -> None:
        """Send a message to nodes; those that have ended are left out."""
        ...

    def take(self, limit_s: float) -> Event | None:
        """Return the next event, in the order of each node; None if none comes in time."""
        ...

    def here(self, name: str, at: float) -> float:
        """Return the reading of the controller's clock at a reading of a node's clock."""
        ...
