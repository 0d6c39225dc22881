"""The scheduler of a run: a name, a class, a function, an instance, or the default."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from mecsim.errors import NoPolicyError, PolicyError, SchedulerError
from mecsim.scheduler import registry
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.errors import scheduler_errors
from mecsim.scheduler.spec import SchedulerSpec

Maker: TypeAlias = Callable[[SchedulerSpec], Scheduler]
SchedulerLike: TypeAlias = str | type[Scheduler] | Maker | Scheduler
"""A name, see :func:`mecsim.scheduler.registry.split_policy`; a class; a function of the spec that
makes a scheduler; or a scheduler that was made for this run."""

LEARNED: Final = "mtl-a3c"
"""The default scheduler where it has a policy that was trained on the scenario."""
ANYWHERE: Final = "greedy"
"""The default scheduler elsewhere: it needs nothing."""


class Choice(NamedTuple):
    """The scheduler of a run."""

    name: str
    scheduler: Scheduler
    reason: str | None = None
    """Why it was chosen, if none was named."""


def choose(
    scheduler: SchedulerLike | None, spec: SchedulerSpec, options: Mapping[str, Any]
) -> Choice:
    """Make the scheduler of a run.

    Args:
        scheduler: What decides; None for the default: ``mtl-a3c`` by the policy that was trained
            on this scenario, if there is one that fits, else ``greedy``.
        spec: The static description of the run.
        options: Options of a name or a class.

    Raises:
        SchedulerError: It cannot be loaded or made, does not fit, or an option is not valid.
    """
    if isinstance(scheduler, str):
        return Choice(scheduler, registry.create(scheduler, spec, options))
    if isinstance(scheduler, type) and issubclass(scheduler, Scheduler):
        name = _name_of(scheduler)
        return Choice(name, registry.make(name, scheduler, spec, options))
    if scheduler is None:
        _refuse(options, "belongs to a scheduler, and none is named. Try: --scheduler NAME")
        return _default(spec)
    if isinstance(scheduler, type) or not (isinstance(scheduler, Scheduler) or callable(scheduler)):
        raise SchedulerError(
            f"scheduler: {reprlib.repr(scheduler)}; expected a name, a subclass of "
            "mecsim.Scheduler, a function that makes one of a SchedulerSpec, or an instance"
        )
    _refuse(options, "goes with a name or a class. Try: set them where it is made")
    made = scheduler if isinstance(scheduler, Scheduler) else _made(scheduler, spec)
    if not made.spec.same_run(spec):
        raise SchedulerError(
            f"scheduler {_name_of(type(made))!r}: was made for another scenario or seed. "
            "Try: its class, or a function of the spec that makes it"
        )
    registry.check_fits(_name_of(type(made)), type(made), spec)
    return Choice(_name_of(type(made)), made)


def _refuse(options: Mapping[str, Any], problem: str) -> None:
    for key in options:
        raise SchedulerError(f"options: {key} {problem}")


def _made(maker: Maker, spec: SchedulerSpec) -> Scheduler:
    name = getattr(maker, "__qualname__", type(maker).__qualname__)
    with scheduler_errors(f"scheduler {name!r}: cannot be made:"):
        made: object = maker(spec)
    if not isinstance(made, Scheduler):
        kind = type(made).__name__
        raise SchedulerError(f"scheduler {name!r}: made a {kind}; expected a mecsim.Scheduler")
    return made


def _name_of(cls: type[Scheduler]) -> str:
    """Return ``package.module:Class``, or the class alone where it is in no module."""
    interactive = cls.__module__ == "__main__"
    return cls.__qualname__ if interactive else f"{cls.__module__}:{cls.__qualname__}"


def _default(spec: SchedulerSpec) -> Choice:
    try:
        learned = registry.create(LEARNED, spec, {})
    except NoPolicyError:
        reason = f"no policy of {LEARNED} was trained on this scenario"
    except PolicyError as error:
        reason = str(error)
    else:
        policy = getattr(learned, "policy_file", "")  # of a learner, which is not known here
        return Choice(LEARNED, learned, f"its policy {policy} was trained on this scenario")
    return Choice(ANYWHERE, registry.create(ANYWHERE, spec, {}), reason)
