"""The base class of schedulers.

A scheduler needs nothing else of mecsim::

    class Nearest(Scheduler):
        '''All blocks on the server of the first device.'''

        def decide(self, observation):
            return [int(observation.serving_server[0]) + 1] * self.spec.blocks
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from mecsim.scheduler.ended_task import EndedTask
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import Placement, SchedulerSpec
from mecsim.support.arrays import Ints


class Scheduler(ABC):
    """Decides where every block of every task runs.

    The first line of a subclass's docstring is its description in ``mecsim schedulers``. Its
    options are the keyword arguments of ``__init__``, with type annotations and defaults; they
    are set on the command line with ``--option KEY=VALUE``.

    Args:
        spec: The static description of the run, kept as ``self.spec``.

    Example:
        >>> class LeastLoaded(Scheduler):
        ...     '''All blocks at the place with the smallest backlog.'''
        ...
        ...     def decide(self, observation):
        ...         return [int(observation.place_backlog_s.argmin())] * self.spec.blocks
    """

    static: ClassVar[bool] = False
    """Whether decisions are the same as long as no device changes its server.

    :meth:`decide` is then called once (with ``decision_epoch: per_task``, once for each device),
    and again when a device has changed its server, which makes runs without a trace faster.
    """

    uses_rollouts: ClassVar[bool] = False
    """Whether decisions use :meth:`Observation.what_if`, for which mecsim keeps a copy of the
    network's state."""

    decision_epochs: ClassVar[tuple[str, ...]] = ("per_slot", "per_task")
    """Values of ``decision_epoch`` that the scheduler is for. Scenarios with another one are
    refused, and the conformance check leaves them out."""

    several_classes: ClassVar[bool] = True
    """Whether the scheduler is for scenarios with several classes of tasks, too: it takes the
    number of blocks from :attr:`Observation.spec`."""

    conformance_options: ClassVar[Mapping[str, Any]] = {}
    """Options of the conformance check that are not given otherwise."""

    def __init__(self, spec: SchedulerSpec) -> None:
        self.spec = spec

    @abstractmethod
    def decide(self, observation: Observation) -> Placement:
        """Decide where the blocks of the epoch's tasks run.

        Args:
            observation: The state of the network at this decision epoch; read-only.

        Returns:
            One place for each block, in {0, …, N}; shape (M,). Place 0 is the task's own device,
            place n is edge server n (Eq. 2).
        """

    def epoch_ended(self, observation: Observation, placement: Ints, reward: float) -> None:
        """Learn from an epoch. mecsim calls this hook at the next epoch, or after the last task.

        The reward is computed only for schedulers that override this hook. It holds the costs of
        all blocks that finished since the epoch, whichever epoch placed them. With per-task
        decisions the time to the next epoch is the time between two tasks, so most of a task's cost
        is in the rewards of later epochs: use :meth:`task_ended` to judge a placement.

        Args:
            observation: What the scheduler saw at the epoch.
            placement: What it decided; shape (M,), read-only.
            reward: The reward of the epoch (Eq. 14).
        """

    def task_ended(self, task: EndedTask) -> None:
        """Learn from a task that has completed or failed.

        mecsim calls this hook once for each task, in order of (finish, number): at the first epoch
        after its end, before :meth:`epoch_ended` and :meth:`decide`, or after the last task.

        Args:
            task: Its placement, delays by block and by part, and energy.
        """

    def run_ended(self) -> None:
        """Learn from a run. mecsim calls this hook once, after all tasks have ended."""
