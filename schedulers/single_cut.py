"""One partition point between the device and one server, as in Neurosurgeon.

Kang et al., "Neurosurgeon: Collaborative Intelligence Between the Cloud and Mobile Edge", 2017.
"""

import numpy as np

from mecsim import Observation, Placement, Scheduler


class SingleCut(Scheduler):
    """The first k blocks at the device, the rest at one server: the best pair by predicted delay.

    The prediction for the mean task of the epoch is backlog + service at each resource it meets,
    and the wait for half of what the epoch's other tasks bring there.
    """

    def decide(self, observation: Observation) -> Placement:
        """Return the placement of least predicted delay over all cuts k and servers."""
        blocks = self.spec.blocks
        delay = self._at_device(observation) + self._at_server(observation)
        delay[:, :blocks] += self._on_the_way(observation)
        server, cut = np.unravel_index(delay.argmin(), delay.shape)
        return [0] * int(cut) + [int(server) + 1] * (blocks - int(cut))

    def _at_device(self, seen: Observation) -> np.ndarray:
        """Seconds that the first k blocks take at the device, k = 0 to M."""
        busy = np.cumsum(np.concatenate([[0.0], _with_others(seen)[0]]))
        return np.where(busy > 0, busy + seen.place_backlog_s[0], 0.0)

    def _at_server(self, seen: Observation) -> np.ndarray:
        """Seconds that blocks k + 1 to M take at each server; shape (N, M + 1)."""
        remaining = _with_others(seen)[1:, ::-1].cumsum(axis=1)[:, ::-1]
        return np.pad(remaining + seen.server_backlog_s[:, None], [(0, 0), (0, 1)])

    def _on_the_way(self, seen: Observation) -> np.ndarray:
        """Seconds to bring the input of block k + 1 to each server; shape (N, M)."""
        mine = slice(None) if seen.device is None else [seen.device]
        radio = seen.input_bits / seen.mean_rate_bps + seen.uplink_backlog_s[mine].mean()
        number = np.arange(self.spec.servers)[:, None]
        elsewhere = (self.spec.access[mine] != number).mean(axis=1, keepdims=True)
        links = self.spec.links
        wired = seen.input_bits / links.rate_bps.mean() if len(links) else 0.0 * seen.input_bits
        return radio + elsewhere * wired


def _with_others(seen: Observation) -> np.ndarray:
    """Seconds of each block at each place with the mean wait for its like; shape (N + 1, M)."""
    return (seen.compute_s + np.maximum(seen.load_s, seen.compute_s)) / 2
