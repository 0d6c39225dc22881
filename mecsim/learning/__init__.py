"""Policies and their training: what a learning scheduler may use of mecsim."""

from mecsim.errors import PolicyError, SchedulerError, TrainingError
from mecsim.learning.interface import (
    Checkpoint,
    Diary,
    Learner,
    Task,
    Trained,
    layout_of,
)
from mecsim.learning.policy_file import Arrays
from mecsim.simulation.replicas import Replicas

__all__ = [
    "Arrays",
    "Checkpoint",
    "Diary",
    "Learner",
    "PolicyError",
    "Replicas",
    "SchedulerError",
    "Task",
    "Trained",
    "TrainingError",
    "layout_of",
]
