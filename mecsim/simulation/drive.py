"""Drive a run: a source of slots on one side, a policy that places their tasks on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np

from mecsim.errors import InputError, MecsimError
from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.model import workload
from mecsim.model.arrivals import CHUNK
from mecsim.model.model import Model
from mecsim.model.workload import Chunk, RecordedWorkload, Slot
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.errors import scheduler_errors
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.placement_checks import check_placement
from mecsim.scheduler.registry import NO_ROLLOUTS
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.ended_tasks import EndedTasks
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.session import Epoch, Session
from mecsim.simulation.static_run import StaticRun, slots_at_once
from mecsim.simulation.totals import Totals
from mecsim.support import signals
from mecsim.support.arrays import Ints
from mecsim.trace.schema import Sink

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of slots done and of all slots."""

KERNELS: Final = ("simpy", "compiled")


def check_kernel(name: str) -> None:
    """Raise ``InputError`` for an unknown name of a kernel."""
    if name not in KERNELS:
        raise InputError(f"kernel: {name!r} is not known; allowed: {', '.join(KERNELS)}")


KernelLike: TypeAlias = str | Callable[[Model], Kernel]
"""The name of a kernel, or what makes one."""


def make_kernel(name: KernelLike, model: Model) -> Kernel:
    """Return a new kernel. Raises ``InputError`` for an unknown name."""
    if not isinstance(name, str):
        return name(model)
    check_kernel(name)
    if name == "compiled":
        return CompiledKernel(model)
    from mecsim.kernels.simpy_kernel import SimpyKernel  # noqa: PLC0415 - takes its time to load

    return SimpyKernel(model)


@dataclass(frozen=True)
class Source:
    """A run without its decisions: where slots come from, and where rows of the trace go."""

    model: Model
    spec: SchedulerSpec
    kernel: KernelLike
    recorded: RecordedWorkload | None = None
    """Tasks, and perhaps radio rates, that are not drawn."""
    sinks: Sequence[Sink] = ()
    bound: LowerBound | None = None
    """Adds up the least costs of all tasks, if given."""
    progress: Progress | None = None

    def chunks(self, length: int = CHUNK) -> Iterator[Chunk]:
        """Yield all slots, ``length`` at a time."""
        for chunk in workload.chunks(self.model, self.recorded, length):
            if self.bound is not None:
                for slot in chunk.slots():
                    self.bound.add(slot)
            yield chunk

    def slots(self) -> Iterator[Slot]:
        """Yield all slots."""
        for chunk in self.chunks():
            yield from chunk.slots()


class Policy(Protocol):
    """Places the tasks of a run."""

    @property
    def uses_rollouts(self) -> bool:
        """Whether observations must offer ``what_if``."""
        ...

    def follow(self, session: Session) -> None:
        """Act on every epoch of a session."""
        ...


class SchedulerPolicy:
    """A scheduler as a policy; its exceptions become input errors that name it."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler, self.name = scheduler, name
        self.uses_rollouts = scheduler.uses_rollouts
        if self.uses_rollouts and scheduler.spec.run.retries:
            raise InputError(f"scheduler {name!r}: {NO_ROLLOUTS}")
        self.hears_epochs = type(scheduler).epoch_ended is not Scheduler.epoch_ended
        self.hears_tasks = type(scheduler).task_ended is not Scheduler.task_ended

    @property
    def learns(self) -> bool:
        """Whether the scheduler overrides a hook that is called during a run."""
        return self.hears_epochs or self.hears_tasks

    def can_run_static(self, source: Source) -> bool:
        """Return whether compiled code can run many slots at once under static placements."""
        static = self.scheduler.static and not (self.uses_rollouts or self.learns)
        per_slot = source.spec.decision_epoch == "per_slot"
        batches = per_slot and len(source.model.classes) == 1  # an epoch is a batch of tasks
        fast = source.kernel == "compiled" and not len(source.model.retries)
        return fast and static and (batches or not source.sinks)

    def follow(self, session: Session) -> None:
        """Let the scheduler decide every epoch, and learn if it overrides a hook."""
        hooks = _Hooks(self, session) if self.learns else None
        known = dict[tuple[int | None, int], Ints]()
        moves, server = session.model.mobility is not None, session.model.serving_server
        for epoch in session:
            if moves and not np.array_equal(epoch.slot.serving_server, server):
                server = epoch.slot.serving_server
                known.clear()
            if epoch.key in known:
                session.act(epoch, known[epoch.key])
                continue
            observation = session.observe(epoch)
            if hooks and session.submitted:
                with self._errors(epoch.number):
                    hooks.call()
            placement = self._decide(observation)
            if hooks:
                hooks.decided(epoch, observation, placement)
            elif self.scheduler.static:
                known[epoch.key] = placement
            del observation  # one that nobody holds is not completed
            session.act(epoch, placement)
        with self._errors(session.epochs):
            if hooks:
                hooks.call()
            self.scheduler.run_ended()

    def _decide(self, observation: Observation) -> Ints:
        """Return the scheduler's placement, checked."""
        epoch, device = observation.epoch, observation.device
        with self._errors(epoch):
            answer = self.scheduler.decide(observation)
            return check_placement(answer, observation.spec, self.name, epoch, device)

    def run_static(self, source: Source) -> Totals:
        """Run all slots under the placements of a static scheduler."""
        model = source.model
        mean = workload.mean_tasks(model, source.recorded)
        length = slots_at_once(model, mean, traced=bool(source.sinks))
        run, done = StaticRun(model, self.scheduler, self.name, source.sinks), 0
        with signals.between_steps() as check:
            for chunk in source.chunks(length):
                run.play(chunk)
                done += len(chunk.start_s)
                check()
                if source.progress is not None:
                    source.progress(done, model.scenario.slots)
        with self._errors(done):
            self.scheduler.run_ended()
        return run.totals

    def _errors(self, epoch: int) -> AbstractContextManager[None]:
        problem = f"scheduler {self.name!r}, epoch {epoch}: raised"
        return scheduler_errors(problem, MecsimError, type(self.scheduler).__module__)


class _Hooks:
    """Calls the hooks of a scheduler that learns from a session."""

    def __init__(self, policy: SchedulerPolicy, session: Session) -> None:
        self._scheduler, self._session = policy.scheduler, session
        self._hears_epochs = policy.hears_epochs
        self._tasks = EndedTasks(session) if policy.hears_tasks else None
        self._before: list[tuple[Observation, Ints]] = []

    def call(self) -> None:
        """Report the tasks that have ended, and the epochs of the instant before."""
        if self._tasks:
            for task in self._tasks.take():
                self._scheduler.task_ended(task)
        if self._before:
            rewards = self._session.rewards()
            for (observation, placement), reward in zip(self._before, rewards, strict=True):
                self._scheduler.epoch_ended(observation, placement, reward)
            self._before.clear()

    def decided(self, epoch: Epoch, observation: Observation, placement: Ints) -> None:
        """Keep what the next call reports."""
        if self._tasks:
            self._tasks.expect(epoch, placement)
        if self._hears_epochs:
            self._before.append((observation, placement))


def drive(source: Source, policy: Policy) -> Totals:
    """Run a source to its end under a policy.

    Args:
        source: The slots, and the sinks of the trace.
        policy: A scheduler, static or not, or recorded decisions.

    Returns:
        Totals over the run.

    Raises:
        InputError: The scheduler raised something, or its placement is invalid.
    """
    if isinstance(policy, SchedulerPolicy) and policy.can_run_static(source):
        return policy.run_static(source)
    model, kernel = source.model, make_kernel(source.kernel, source.model)
    with signals.between_steps() as check:  # not in _counted: generators end in any order
        session = Session(
            model,
            _counted(source, check),
            kernel,
            source.spec,
            source.sinks,
            uses_rollouts=policy.uses_rollouts,
        )
        try:
            policy.follow(session)
        except BaseException:
            session.account()  # the trace keeps everything that has happened
            raise
    return session.totals


def _counted(source: Source, check: Callable[[], None]) -> Iterator[Slot]:
    """Yield the slots; once the epochs of one are over, call ``check`` and report progress."""
    total = source.model.scenario.slots
    for done, slot in enumerate(source.slots(), start=1):
        yield slot
        check()
        if source.progress is not None:
            source.progress(done, total)
