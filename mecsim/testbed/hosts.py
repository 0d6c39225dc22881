"""What the controller needs of host processes, on one machine or on several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mecsim.testbed.host_process import BlocksOfClass, Built, HostProcess
from mecsim.testbed.settings import NodeConfig


class Hosts(Protocol):
    """The host processes of all machines."""

    address: str
    """Where nodes reach the controller; empty if all are on its machine."""

    def build(self, classes: Sequence[BlocksOfClass]) -> dict[str, Built]:
        """Let every host build and time the blocks; return what each has found, by its address.

        Raises:
            InputError: They cannot be built.
            NodeFailedError: A host has ended, or takes too long.
        """
        ...

    def names_at(self, address: str) -> list[str] | None:
        """Return the nodes of a machine; None for all."""
        ...

    def fork(self, config: NodeConfig) -> None:
        """Let the host of a node fork it.

        Raises:
            NodeFailedError: The host has ended, or cannot do it.
        """
        ...

    def reason(self, name: str) -> str:
        """Return why a node has ended, after a short wait; empty if that is not known."""
        ...

    def close(self) -> None:
        """End all hosts and their nodes."""
        ...


class LocalHosts:
    """The one host of this machine."""

    address = ""

    def __init__(self) -> None:
        self._host = HostProcess()
        self.fork, self.reason, self.close = self._host.fork, self._host.reason, self._host.close

    def build(self, classes: Sequence[BlocksOfClass]) -> dict[str, Built]:
        """Let the host build and time the blocks."""
        return {"": self._host.build(classes)}

    def names_at(self, address: str) -> None:
        """Return None: all nodes are here."""
