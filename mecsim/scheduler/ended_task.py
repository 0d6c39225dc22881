"""A task that has ended, as the hook ``task_ended`` reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mecsim.support.arrays import Floats, Ints


@dataclass(frozen=True, eq=False, slots=True)
class EndedTask:
    """A task that has completed or failed. Every array is read-only; M is its number of blocks."""

    number: int
    """Number of the task in the run, from 0."""
    slot: int
    """The slot of its release."""
    device: int
    class_number: int
    """Its class, from 0."""
    class_name: str
    """Empty where the scenario names no classes."""
    placement: Ints
    """Place of every block in the last attempt; shape (M,)."""
    release_s: float
    """When it was released first."""
    finish_s: float
    """When it completed or failed: at the end of its last service if the battery was spent, in the
    outage if it was lost, at its deadline or later if it was dropped."""
    delay_s: Floats
    """Delay L of every block, NaN from the block at which it failed on; shape (M,).

    That of the last attempt, whose first block counts from the end of the last block that an
    earlier attempt finished.
    """
    part_s: Mapping[str, float]
    """Seconds by kind of resource: ``device``, ``uplink``, ``link``, ``server``, ``downlink``.

    Waiting, service and latency count, in all attempts; the parts of a completed task add up to its
    delay. In scenarios with ``retries`` there is also ``decision``: the time from each loss to the
    decision that placed the task again.
    """
    energy_j: float
    """Energy that the device spent on it, in all attempts."""
    late_blocks: int
    """Number of blocks that exceeded their tolerated delay τ, in all attempts."""
    failed: bool
    missed_deadline: bool
    """Whether it did not complete by the ``deadline`` of its class."""
    attempts: int = 1
    """How often it was placed: 1, and once more for each retry after a loss."""

    @property
    def total_s(self) -> float:
        """Return the time from the release to the end."""
        return self.finish_s - self.release_s
