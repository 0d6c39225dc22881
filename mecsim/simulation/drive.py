"""A scheduler in the loop of a session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from mecsim.errors import InputError, MecsimError, SchedulerError
from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.model import workload
from mecsim.model.model import Model
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.placements import check_placement
from mecsim.simulation.session import Session, ShadowedKernel
from mecsim.simulation.totals import Totals
from mecsim.support import signals
from mecsim.support.arrays import Ints

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the slots done and the slots to do."""


KERNELS: Final = ("simpy", "compiled")


def check_kernel(name: str) -> None:
    """Raise ``InputError`` for a name that no kernel has."""
    if name not in KERNELS:
        raise InputError(f"kernel: {name!r} is not known; allowed: {', '.join(KERNELS)}")


def make_kernel(name: str, model: Model) -> Kernel:
    """Return a new kernel by its name. Raises ``InputError`` for an unknown name."""
    check_kernel(name)
    if name == "compiled":
        return CompiledKernel(model)
    from mecsim.kernels.simpy_kernel import SimpyKernel  # noqa: PLC0415 - takes its time to load

    return SimpyKernel(model)


def kernel_for(scheduler: Scheduler, name: str, model: Model) -> Kernel:
    """Return a kernel from which runs can branch off if the scheduler uses_rollouts them."""
    kernel = make_kernel(name, model)
    if not scheduler.uses_rollouts or isinstance(kernel, CompiledKernel):
        return kernel
    return ShadowedKernel(kernel, model)


def counted(
    slots: Iterator[workload.Slot], total: int, progress: Progress | None
) -> Iterator[workload.Slot]:
    """Yield the slots; report each to ``progress`` once its epochs are over."""
    with signals.between_steps() as check:
        for done, slot in enumerate(slots, start=1):
            yield slot
            check()
            if progress is not None:
                progress(done, total)


def wants_rewards(scheduler: Scheduler) -> bool:
    """Return whether a scheduler overrides ``epoch_ended``."""
    return type(scheduler).epoch_ended is not Scheduler.epoch_ended


def drive_session(session: Session, scheduler: Scheduler, name: str) -> Totals:
    """Let a scheduler decide every epoch, and learn if it has the hook."""
    learns = wants_rewards(scheduler)
    before, known = None, dict[int | None, Ints]()
    try:
        for epoch in session:
            if epoch.device in known:
                session.act(epoch, known[epoch.device])
                continue
            observation = session.observe(epoch)
            with scheduler_errors(name, epoch.number):
                if learns and before is not None:
                    scheduler.epoch_ended(*before, session.reward())
                answer = scheduler.decide(observation)
                placement = check_placement(answer, session.spec, name, epoch.number, epoch.device)
            session.act(epoch, placement)
            before = observation, placement
            if scheduler.static and not learns:
                known[epoch.device] = placement
    except BaseException:
        session.account()  # so that the trace keeps all that has happened
        raise
    with scheduler_errors(name, session.epochs):
        if learns and before is not None:
            scheduler.epoch_ended(*before, session.reward())
        scheduler.run_ended()
    return session.totals


@contextlib.contextmanager
def scheduler_errors(name: str, epoch: int) -> Iterator[None]:
    """Tell whatever a scheduler raises as bad input that names it."""
    try:
        yield
    except MecsimError:
        raise
    except (Exception, SystemExit) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise SchedulerError(f"scheduler {name!r}, epoch {epoch}: raised {cause}") from error
