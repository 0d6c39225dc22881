"""A class of tasks: what its tasks have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskClass:
    """A class of tasks, resolved."""

    number: int
    """Its position among the classes of the scenario, from 0."""
    name: str
    """Empty where the scenario names no classes."""
    blocks: int
    """M, the number of blocks of its DNN."""
    deadline_s: float
    """The time from the release of a task until it should have ended; infinite without one."""
    drop_late: bool
    """Whether a task is dropped where its next service would begin after its deadline."""
    retries: int
    """How many times a lost task is placed again."""
    weights: tuple[float, ...]
    """Weight of every group of devices in releasing its tasks; empty if all devices are equal."""
    priority: str
    """A label; it changes no result."""
