"""Decision epochs to come, as arrays for the compiled kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mecsim.model import workload
from mecsim.model.model import Model
from mecsim.model.workload import Chunk
from mecsim.support.arrays import Floats, Ints


class Epochs(NamedTuple):
    """Epochs to come, E of them, and their n tasks."""

    time_s: Floats
    """Shape (E,)."""
    bounds: Ints
    """The tasks of epoch e are those from ``bounds[e]`` to ``bounds[e + 1]``; shape (E + 1,)."""
    rates: Ints
    """The row of ``rate_bps`` that holds in an epoch; shape (E,)."""
    release_s: Floats
    device: Ints
    size: Floats
    rate_bps: Floats

    @classmethod
    def of(cls, chunk: Chunk) -> Epochs:
        """Return the epochs of a chunk, a slot each."""
        each = len(chunk.rate_bps) > 1
        rates = np.arange(len(chunk.start_s)) * each
        tasks = chunk.release_s, chunk.device, chunk.size
        return cls(chunk.start_s, chunk.bounds, rates, *tasks, chunk.rate_bps)


class Page(NamedTuple):
    """Epochs of one replica or of many, E of them, and what is known of each."""

    epochs: Epochs
    tasks: Floats
    """Number of tasks and their mean size factor; shape (E, 2)."""
    size: Floats
    """Size factors to be expected; shape (E, 1) or (E, M)."""
    device: Ints
    """Device of the epoch's task where epochs are tasks; shape (E,)."""

    @classmethod
    def of(cls, chunk: workload.Chunk, model: Model) -> Page:
        """Return the epochs of a chunk."""
        epochs, size = Epochs.of(chunk), chunk.expected_size
        tasks, device = chunk.expected_tasks, np.zeros(len(chunk.start_s), dtype=np.int64)
        if model.scenario.decision_epoch == "per_task":
            rates = np.repeat(epochs.rates, np.diff(chunk.bounds))
            bounds = np.arange(len(chunk.device) + 1)
            epochs = epochs._replace(time_s=chunk.release_s, bounds=bounds, rates=rates)
            tasks, size, device = np.ones(len(chunk.device)), chunk.size, chunk.device
        mean = np.add.reduce(size, axis=1) / size.shape[1]
        return cls(epochs, np.stack([tasks, mean], axis=1), size, device)

    def blocks(self, model: Model, rows: slice | Ints) -> Floats:
        """Return cycles, parameter bytes and input bits of some E epochs; shape (E, 3·M)."""
        size = self.size[rows]
        own = np.broadcast_to(model.parameter_bytes, (len(size), model.blocks))
        return np.concatenate([model.cycles * size, own, model.input_bits * size], axis=1)

    @classmethod
    def idle(cls, model: Model) -> Page:
        """Return one epoch without tasks, which stands for what comes after the end."""
        chunk = next(workload.chunks(model, length=1))
        size, nothing = np.ones((1, chunk.size.shape[1])), slice(0)
        epochs = Epochs(
            time_s=np.zeros(1),
            bounds=np.zeros(2, dtype=np.int64),
            rates=np.zeros(1, dtype=np.int64),
            release_s=chunk.release_s[nothing],
            device=chunk.device[nothing],
            size=chunk.size[nothing],
            rate_bps=chunk.rate_bps[:1],
        )
        return cls(epochs, np.array([[0.0, 1.0]]), size, np.zeros(1, dtype=np.int64))
