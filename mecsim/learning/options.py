"""Training options of a learner by name: presets, defaults and checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mecsim.errors import InputError, SchedulerError
from mecsim.learning.interface import Learner
from mecsim.learning.settings import TrainingSettings, describe_settings
from mecsim.scheduler import registry
from mecsim.support.text import did_you_mean

TUNED: Final = "tuned"
"""The preset that leaves the defaults as they are."""


def find_learner(scheduler: str) -> type[Learner]:
    """Return the class of a learner. Raises ``SchedulerError`` if the scheduler does not learn."""
    name, policy = registry.split_policy(scheduler)
    found = registry.load(name)
    if not issubclass(found, Learner):
        learners = ", ".join(name for name in registry.names() if _learns(name))
        raise SchedulerError(f"scheduler {scheduler!r}: does not learn; allowed: {learners}")
    if policy:
        raise SchedulerError(f"scheduler {scheduler!r}: is trained already. Try: {name}")
    return found


def _learns(name: str) -> bool:
    try:
        return issubclass(registry.load(name), Learner)
    except SchedulerError:
        return False  # a broken scheduler does not hide the others


def resolve_settings(
    scheduler: str, options: Mapping[str, Any], preset: str | None = None
) -> TrainingSettings:
    """Return all training options: those given, else those of the preset, else the defaults.

    Args:
        scheduler: The name of a learner.
        options: Training options; texts are converted.
        preset: The name of one of :attr:`Learner.presets`; None for the defaults.

    Raises:
        SchedulerError: If the scheduler does not learn, if an option or the preset is wrong, or if
            an option that is not the default has no effect with the others.

    Examples:
        >>> resolve_settings("dqn", {"gamma": 0.9}, "paper").learning_rate
        0.01
    """
    learner = find_learner(scheduler)
    presets: dict[str, Mapping[str, Any]] = {TUNED: {}} | dict(learner.presets)
    if preset is not None and preset not in presets:
        allowed = f"{did_you_mean(preset, presets)}allowed: {', '.join(presets)}"
        raise SchedulerError(f"scheduler {scheduler!r}: has no preset {preset!r}; {allowed}")
    merged = dict(presets[preset or TUNED]) | dict(options)
    found = learner.settings(**registry.check_options(scheduler, learner.settings, merged))
    _check_effect(scheduler, options, found, preset)
    return found


def _check_effect(
    scheduler: str, given: Mapping[str, Any], settings: TrainingSettings, preset: str | None
) -> None:
    """Raise ``SchedulerError`` for a given option without effect, unless it is the default.

    Policies and jobs hold all options, so defaults may be given.
    """
    default = type(settings)()
    for name, cause in settings.without_effect().items():
        if name in given and getattr(settings, name) != getattr(default, name):
            key = cause.partition("=")[0]
            of = "" if key in given or preset in (None, TUNED) else f" of the preset {preset!r}"
            raise SchedulerError(
                f"scheduler {scheduler!r}: option {name}: has no effect with {cause}{of}. "
                f"Try: omit it, or another {key}"
            )


def stack_key(scheduler: str, options: Mapping[str, Any]) -> str | None:
    """Return a text that is equal for options whose trainings can be one stack; None for none.

    Raises:
        SchedulerError: See :func:`resolve_settings`.
    """
    return find_learner(scheduler).stack_key(resolve_settings(scheduler, options))


def check_workers(
    scheduler: str, settings: TrainingSettings, workers: int, engine: str = "local"
) -> None:
    """Raise ``InputError`` for workers or an engine that a training in one process cannot use."""
    if (workers <= 1 and engine == "local") or not find_learner(scheduler).in_one_process(settings):
        return
    if workers <= 1:
        given, remedy = f"engine: {engine}", "--engine local"
    elif hasattr(settings, "work_nodes"):  # what the paper has in place of workers
        given, remedy = f"workers: {workers}", f"--option work_nodes={workers} without --workers"
    else:
        given, remedy = f"workers: {workers}", "omit --workers"
    raise InputError(
        f"{given}; with these options {scheduler} is trained in one process. Try: {remedy}"
    )


def settings_of(scheduler: str, preset: str | None = None) -> list[dict[str, str]]:
    """Describe the training options of a learner, see :func:`describe_settings`.

    Args:
        scheduler: The name of a learner.
        preset: The preset whose values are shown as defaults.

    Raises:
        SchedulerError: See :func:`resolve_settings`.
    """
    return describe_settings(resolve_settings(scheduler, {}, preset))
