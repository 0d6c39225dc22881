"""The rows of slots and decisions of a trace, sent many at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from mecsim.model.model import Model
from mecsim.model.workload import Slot
from mecsim.scheduler.features import Seen, features
from mecsim.support.arrays import Floats, Ints
from mecsim.trace.schema import Rows, Sink

ROWS: Final = 64
MANY: Final = 1024
BYTES: Final = 4 << 20
SECONDS: Final = 0.05
"""Rows are sent at a slot's start when there are so many, within one when there are many decisions
or so many bytes, or after so much wall time: this bounds
memory and what a killed run loses, and changes no result."""


class Sight(NamedTuple):
    """What there is to be seen at an epoch, before it is made into an observation."""

    device: int | None
    tasks: float
    size_factor: float
    cycles: Floats
    input_bits: Floats
    rate_bps: Floats
    backlog_s: Floats
    """Of every resource; shape (R,)."""
    battery_j: Floats


class _Decision(NamedTuple):
    time_s: float
    slot: int
    placement: Ints
    sight: Sight


class Logbook:
    """Takes notes of slots and decisions, and sends them to sinks as rows."""

    def __init__(self, model: Model, sinks: Sequence[Sink]) -> None:
        self._model, self._sinks = model, sinks
        self._slots: list[tuple[Slot, Floats]] = []
        self._decisions: list[_Decision] = []
        self._bytes = 0
        self._sent = time.monotonic()

    def note_slot(self, slot: Slot, battery_j: Floats) -> None:
        """Take a slot with what is left in the batteries when it begins."""
        self._slots.append((slot, battery_j))
        self._bytes += slot.rate_bps.nbytes + battery_j.nbytes

    def note_decision(self, time_s: float, slot: int, placement: Ints, sight: Sight) -> None:
        """Take a decision with what there was to be seen."""
        self._decisions.append(_Decision(time_s, slot, placement, sight))
        self._bytes += sight.backlog_s.nbytes + sight.battery_j.nbytes
        if self._bytes >= BYTES or len(self._decisions) >= MANY:
            self.send()

    def send_when_due(self) -> None:
        """Send the rows if there are many, or if the last ones were sent some time ago."""
        many = len(self._slots) + len(self._decisions) >= ROWS
        if many or time.monotonic() - self._sent >= SECONDS:
            self.send()

    def send(self) -> None:
        """Send the rows that there are."""
        if self._decisions:
            self._append("decisions", self._decision_rows())
        if self._slots:
            slots, battery_j = zip(*self._slots, strict=True)
            rows = {
                "time_s": np.array([slot.start_s for slot in slots]),
                "released": np.array([len(slot.tasks) for slot in slots]),
                "rate_bps": np.stack([slot.rate_bps for slot in slots]),
                "energy_remaining_J": np.stack(battery_j),
            }
            self._append("slots", rows)
        self._slots, self._decisions, self._bytes = [], [], 0
        self._sent = time.monotonic()

    def _append(self, group: str, rows: Rows) -> None:
        for sink in self._sinks:
            sink.append(group, rows)

    def _decision_rows(self) -> Rows:
        times, slots, placements, sights = zip(*self._decisions, strict=True)
        return {
            "time_s": np.array(times),
            "slot": np.array(slots, dtype=np.int64),
            "placement": np.stack(placements).astype(np.int32),
            "observation": self._observations(sights),
        }

    def _observations(self, sights: Sequence[Sight]) -> Floats:
        model, count = self._model, len(sights)
        own = np.broadcast_to(model.parameter_bytes, (count, model.blocks))
        cycles = np.stack([sight.cycles for sight in sights])
        input_bits = np.stack([sight.input_bits for sight in sights])
        devices = [-1 if sight.device is None else sight.device for sight in sights]
        return features(
            Seen(
                tasks=np.array([(sight.tasks, sight.size_factor) for sight in sights]),
                blocks=np.concatenate([cycles, own, input_bits], axis=1),
                rate_bps=np.stack([sight.rate_bps for sight in sights]),
                backlog_s=np.stack([sight.backlog_s for sight in sights]),
                battery_j=np.stack([sight.battery_j for sight in sights]),
                serving_server=np.tile(model.serving_server, (count, 1)),
                link_source=model.links.source.copy(),
                device=np.array(devices, dtype=np.int64),
                servers=model.servers,
            )
        )
