"""Rows of a trace: slots and decisions as they come, tasks when their epochs have ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mecsim.model.workload import Slot
from mecsim.scheduler.observation import Observation, observation_table
from mecsim.simulation.task_accounts import Accounts, RewardLedger
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Floats, Ints
from mecsim.trace.schema import Rows, Sink


class TraceRecorder:
    """Sends the rows of a trace to sinks; :meth:`send` bounds its memory.

    Args:
        sinks: Where the rows go.
        epochs_a_batch: Epochs whose tasks are submitted together.
        moves: Whether devices move, so that rows of slots have their servers.
    """

    def __init__(
        self, sinks: Sequence[Sink], epochs_a_batch: int = 1, *, moves: bool = False
    ) -> None:
        self._sinks, self._moves = sinks, moves
        self._slots: list[tuple[Slot, Floats]] = []
        self._decisions: list[tuple[Observation, Ints]] = []
        self.rewards = RewardLedger.empty(epochs_a_batch)
        self.bytes = 0
        """Size of the rows that have not been sent, roughly."""

    def add_slot(self, slot: Slot, battery_j: Floats) -> None:
        """Record a slot, with the batteries at its start."""
        self._slots.append((slot, battery_j))
        self.bytes += slot.rate_bps.nbytes + battery_j.nbytes

    def add_decision(self, observation: Observation, placement: Ints) -> None:
        """Record a decision and open its epoch in the ledger of rewards."""
        self._decisions.append((observation, placement))
        self.rewards.open(observation.time_s)
        seen = observation.backlog_s, observation.battery_j, observation.cpu_committed_s
        self.bytes += sum(each.nbytes for each in seen)

    def send(self) -> None:
        """Send the rows of slots and decisions."""
        rows = {}
        if self._decisions:
            rows["decisions"] = self._decision_rows()
        if self._slots:
            rows["slots"] = self._slot_rows()
        self._slots, self._decisions, self.bytes = [], [], 0
        self.append(rows)

    def send_ended(self, accounts: Accounts, totals: Totals) -> None:
        """Send the rows of the next epochs that have ended, rewards included."""
        rewards = self._rewards(accounts)
        self.append({**accounts.rows(), "decisions": rewards, "resources": totals.resource_rows()})

    def send_rewards(self, accounts: Accounts) -> None:
        """Send the rewards of the next epochs that have ended, without the rows of their tasks."""
        self.append({"decisions": self._rewards(accounts)})

    def send_tasks(self, rows: Mapping[str, Rows], totals: Totals) -> None:
        """Send the rows of the next tasks that have ended, by group."""
        self.append({**rows, "resources": totals.resource_rows()})

    def _rewards(self, accounts: Accounts) -> Rows:
        self.rewards.credit(accounts)
        return {"reward": np.array(self.rewards.close(len(accounts.tasks_of)))}

    def append(self, rows: Mapping[str, Rows]) -> None:
        """Send rows to all sinks, by group."""
        for sink in self._sinks:
            for group, columns in rows.items():
                sink.append(group, columns)

    def _decision_rows(self) -> Rows:
        observations, placements = zip(*self._decisions, strict=True)
        spec = observations[0].spec.run
        of_class = np.array([each.class_number for each in observations], dtype=np.int32)
        padded = np.full((len(placements), spec.most_blocks), -1, dtype=np.int32)
        for row, placement in zip(padded, placements, strict=True):
            row[: len(placement)] = placement
        return {
            "time_s": np.array([each.time_s for each in observations]),
            "slot": np.array([each.slot for each in observations], dtype=np.int64),
            "placement": padded,
            "observation": observation_table(observations).features(),
            **({"class": of_class} if len(spec.classes) > 1 else {}),
        }

    def _slot_rows(self) -> Rows:
        slots, battery_j = zip(*self._slots, strict=True)
        servers = [slot.serving_server for slot in slots] if self._moves else []
        return {
            "time_s": np.array([slot.start_s for slot in slots]),
            "released": np.array([len(slot.tasks) for slot in slots]),
            "rate_bps": np.stack([slot.rate_bps for slot in slots]),
            "energy_remaining_J": np.stack(battery_j),
            **({"serving_server": np.stack(servers).astype(np.int32)} if servers else {}),
        }
