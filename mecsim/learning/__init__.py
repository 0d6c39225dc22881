"""Policies and their training: everything of mecsim that a learning scheduler may use."""

from mecsim.errors import PolicyError, SchedulerError, TrainingError
from mecsim.learning.interface import (
    UNTRAINED,
    Checkpoint,
    Learner,
    TrainingLogger,
    TrainingResult,
    layout_of,
)
from mecsim.learning.policy_file import Arrays
from mecsim.learning.problem import TrainingProblem, TrainingRequest
from mecsim.learning.settings import TrainingSettings
from mecsim.simulation.replicas import Replicas

__all__ = [
    "UNTRAINED",
    "Arrays",
    "Checkpoint",
    "Learner",
    "PolicyError",
    "Replicas",
    "SchedulerError",
    "TrainingError",
    "TrainingLogger",
    "TrainingProblem",
    "TrainingRequest",
    "TrainingResult",
    "TrainingSettings",
    "layout_of",
]
