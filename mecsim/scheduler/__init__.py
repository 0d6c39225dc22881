"""The interface of schedulers: the only part of mecsim that a scheduler needs."""

from mecsim.model.empty_network import cheapest_chain
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.custom_features import AddedFeatures, CustomFeatures, ObservationBatch
from mecsim.scheduler.ended_task import EndedTask
from mecsim.scheduler.observation import Observation, Outcomes, feature_names
from mecsim.scheduler.placement_checks import check_placement, check_placements
from mecsim.scheduler.spec import Placement, SchedulerSpec
from mecsim.support.arrays import Floats, Ints

__all__ = [
    "AddedFeatures",
    "CustomFeatures",
    "EndedTask",
    "Floats",
    "Ints",
    "Observation",
    "ObservationBatch",
    "Outcomes",
    "Placement",
    "Scheduler",
    "SchedulerSpec",
    "cheapest_chain",
    "check_placement",
    "check_placements",
    "feature_names",
]
