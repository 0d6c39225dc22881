"""The face of a scheduler: what it sees, what it returns, and a check that it keeps to it.

A scheduler needs nothing else of mecsim::

    class Nearest(Scheduler):
        '''Everything at the associated server of the first device.'''

        def decide(self, observation):
            return [int(self.spec.serving_server[0]) + 1] * self.spec.blocks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from mecsim.model.empty_network import (
    cheapest_chain as cheapest_chain,  # schedulers take it from here
)
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import Placement, SchedulerSpec
from mecsim.support.arrays import Ints


class Scheduler(ABC):
    """Decides where every block of every task runs.

    The first line of a subclass's docstring is its description in ``mecsim schedulers``. Its
    options are the keyword arguments of ``__init__``, with type annotations and defaults; they
    are set from the command line with ``--option KEY=VALUE``.
    """

    static: ClassVar[bool] = False
    """Whether decisions depend on nothing that changes during a run.

    Then :meth:`decide` is asked only once (where epochs are tasks, once for each device), which
    makes runs without a trace faster.
    """

    uses_rollouts: ClassVar[bool] = False
    """Whether decisions use :meth:`Observation.what_if`, which takes a copy of the network."""

    def __init__(self, spec: SchedulerSpec) -> None:
        self.spec = spec

    @abstractmethod
    def decide(self, observation: Observation) -> Placement:
        """Return a place in {0, …, N} for each of the M blocks (Eq. 2)."""

    def epoch_ended(self, observation: Observation, placement: Ints, reward: float) -> None:
        """Learn from an epoch: called when it is over, with its reward (Eq. 14).

        Only schedulers that override it pay for computing the reward.
        """

    def run_ended(self) -> None:
        """Learn from a run: called once when all tasks have ended."""
