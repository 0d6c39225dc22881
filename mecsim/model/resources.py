"""The queued resources of a network and their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mecsim.support.arrays import Ints

KINDS: Final = ("server", "device", "uplink", "downlink", "link")
"""Kinds of queued resources, in the order of their numbers."""


@dataclass(frozen=True)
class Resources:
    """The numbers of the queued resources: servers, devices, uplinks, downlinks, wired links."""

    servers: int
    """N; the servers have the numbers 0 to N - 1."""
    devices: int
    """D; each device has a CPU, an uplink and a downlink."""
    links: int
    """L, the number of directed wired links."""

    @property
    def device(self) -> int:
        """Number of the first device's CPU."""
        return self.servers

    @property
    def uplink(self) -> int:
        """Number of the first uplink."""
        return self.servers + self.devices

    @property
    def downlink(self) -> int:
        """Number of the first downlink."""
        return self.servers + 2 * self.devices

    @property
    def link(self) -> int:
        """Number of the first wired link."""
        return self.servers + 3 * self.devices

    def __len__(self) -> int:
        return self.link + self.links

    @property
    def kind(self) -> Ints:
        """Kind of every resource as an index into ``KINDS``; shape (R,)."""
        counts = (self.servers, self.devices, self.devices, self.devices, self.links)
        return np.repeat(np.arange(len(KINDS)), counts)
