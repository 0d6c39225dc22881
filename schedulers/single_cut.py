"""One partition point between the device and one server, as in Neurosurgeon.

Kang et al., "Neurosurgeon: Collaborative Intelligence Between the Cloud and Mobile Edge", 2017.
"""

import numpy as np

from mecsim import Floats, Ints, Observation, Placement, Scheduler


class SingleCut(Scheduler):
    """The first k blocks at the device, the rest at one server: the best pair by predicted delay.

    The prediction is for the mean task of the epoch: the backlog and the service time at each
    resource that it crosses, on the way back of the result too, and the wait for half of the work
    that the epoch's other tasks bring to the same CPU. Places that are down are avoided.
    """

    def decide(self, observation: Observation) -> Placement:
        """Return the placement of least predicted delay over all cuts k and servers."""
        predicted = self.predict(observation)
        cut, server = np.unravel_index(predicted.argmin(), predicted.shape)
        blocks = observation.spec.blocks
        return [0] * int(cut) + [int(server) + 1] * (blocks - int(cut))

    def predict(self, observation: Observation) -> Floats:
        """Predict the total delay of every choice.

        Args:
            observation: The state of the network.

        Returns:
            Seconds for each cut k (rows, 0 to M) and each server (columns); shape (M + 1, N).
        """
        delay = np.zeros((observation.spec.blocks + 1, self.spec.servers))
        cpu = (observation.compute_s + np.maximum(observation.load_s, observation.compute_s)) / 2
        delay[1:] += observation.place_backlog_s[0] + np.cumsum(cpu[0])[:, None]
        remaining = cpu[1:, ::-1].cumsum(axis=1)[:, ::-1].T
        delay[:-1] += observation.place_backlog_s[1:] + remaining + self._input_s(observation)
        if self.spec.returns_result:
            delay[:-1] += self._result_s(observation)
        return delay

    def _input_s(self, observation: Observation) -> Floats:
        """Return the seconds to bring each block's input to each server; shape (M, N)."""
        mine = _devices(observation)
        radio = (
            observation.radio_s(observation.input_bits) + observation.uplink_backlog_s[mine].mean()
        )
        serving_server, share = _serving_servers(observation)
        wired = [
            _weighted(observation.wired_s(block, serving_server), share)
            for block in range(observation.spec.blocks)
        ]
        return radio[:, None] + np.array(wired)

    def _result_s(self, observation: Observation) -> Floats:
        """Return the seconds to return the result from each server; shape (N,)."""
        mine = _devices(observation)
        radio = (
            observation.radio_s(observation.result_bits)
            + observation.downlink_backlog_s[mine].mean()
        )
        serving_server, share = _serving_servers(observation)
        wired = observation.wired_s(observation.spec.blocks, np.arange(self.spec.servers))
        return np.asarray(radio + _weighted(wired[:, serving_server].T, share))


def _serving_servers(observation: Observation) -> tuple[Ints, Floats]:
    """Return the servers of the epoch's devices, and the share of these devices at each."""
    own = observation.serving_server[_devices(observation)]
    servers, devices = np.unique(own, return_counts=True)
    return servers, devices / devices.sum()


def _devices(observation: Observation) -> Ints | slice | list[int]:
    if observation.device is not None:
        return [observation.device]
    return slice(None) if observation.spec.every_device else observation.spec.releasing


def _weighted(rows: Floats, weights: Floats) -> Floats:
    """Return the sum of rows times weights, in their order: BLAS differs from CPU to CPU."""
    return np.asarray(np.add.reduce(rows * weights[:, None], axis=0))
