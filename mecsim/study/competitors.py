"""Competitors: schedulers with options and a label, as users write them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mecsim.errors import InputError
from mecsim.learning.interface import Learner
from mecsim.learning.options import resolve_settings
from mecsim.learning.settings import TrainingSettings
from mecsim.scenario import yaml_source
from mecsim.scheduler import registry
from mecsim.study.sweep import owner
from mecsim.support.names import scheduler_label

BOUND: Final = "lower bound"
"""The name of the lower bound in results, which no competitor may have."""
_LABEL: Final = re.compile(r"\w[\w .+()-]{0,39}")
_ALLOWED: Final = (
    "1 to 40 letters, digits, spaces and characters of . _ + - ( ), a letter or digit first"
)


@dataclass(frozen=True)
class Competitor:
    """A scheduler in a comparison."""

    label: str
    """Name in the results."""
    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    """Preset of a learner's training options; None for the defaults."""
    seeds: int | None = None
    """Run only the first n seeds of the study; None for all."""
    workers: int | None = None
    """Number of training workers; None for that of the study."""
    episodes: int | None = None
    """Episodes of a training; None for those of the study."""
    trainings: int | None = None
    """Train only with the first n training seeds of the study; None for all."""
    train_once: bool = False
    """Train once on the base scenario and evaluate that policy at every point of the sweep."""


def competitors(
    schedulers: Sequence[str], options: Sequence[str] = (), presets: Sequence[str] = ()
) -> list[Competitor]:
    """Return the competitors, each with its options.

    >>> quick = competitors(["greedy", "quick=lookahead"], ["quick.budget=30"])[1]
    >>> quick.scheduler, quick.options
    ('lookahead', {'budget': 30})

    Args:
        schedulers: ``SCHEDULER`` or ``LABEL=SCHEDULER``, with a scheduler as for
            :func:`mecsim.scheduler.registry.split_policy`.
        options: ``LABEL.KEY=VALUE``, the value as YAML. Without a label, the name of the scheduler.
        presets: ``LABEL=PRESET`` for one learner, or ``PRESET`` for all others that are trained.

    Raises:
        InputError: There is no scheduler; a label is not valid or given twice; an option or a
            preset belongs to none of the competitors.
    """
    if not schedulers:
        raise InputError("--schedulers: empty list")
    entries = [_entry(text) for text in schedulers]
    check_labels([Competitor(*entry) for entry in entries])
    given = _given_options(entries, options)
    found = [
        Competitor(
            label, *registry.split_policy(text, yaml_source.assigned(given[label], "--option"))
        )
        for label, text in entries
    ]
    return _with_presets(found, presets)


def _entry(text: str) -> tuple[str, str]:
    """Return the label and the scheduler of ``LABEL=SCHEDULER`` or ``SCHEDULER``.

    A path may have ``=`` behind its first ``/`` or ``:``, which no label contains.
    """
    head, equals, rest = text.partition("=")
    if not equals or (":" in text and re.search(r"[/\\:]", head)):
        return scheduler_label(text), text
    label, scheduler = head.strip(), rest.strip()
    if not _LABEL.fullmatch(label):
        raise InputError(f"--schedulers: {text}: label {label!r}. Expected: {_ALLOWED}")
    if not scheduler:
        raise InputError(f"--schedulers: {text}: names no scheduler. Expected: LABEL=SCHEDULER")
    installed = registry.names()
    if label in installed and label != scheduler and ":" not in scheduler:
        swapped = "" if scheduler in installed else f". Try: {scheduler}={label}"
        raise InputError(
            f"--schedulers: {text}: label {label!r} is the name of another scheduler. "
            f"Expected: LABEL=SCHEDULER{swapped}"
        )
    return label, scheduler


def check_labels(found: Sequence[Competitor]) -> None:
    """Raise ``InputError`` if two competitors have the same label or one has that of the bound."""
    labels = set[str]()
    for each in found:
        if each.label == BOUND:
            raise InputError(f"label {BOUND!r}: is reserved. Expected: another label")
        if each.label in labels:
            raise InputError(
                f"--schedulers: {each.label!r} is listed twice. Expected: LABEL=SCHEDULER with "
                f"different labels. Try: '{each.label} 2={each.scheduler}'"
            )
        labels.add(each.label)


def _given_options(
    entries: Sequence[tuple[str, str]], options: Iterable[str]
) -> dict[str, list[str]]:
    """Return the options ``KEY=VALUE`` of each label."""
    found: dict[str, list[str]] = {label: [] for label, _ in entries}
    names = {s: label for label, s in entries if label == scheduler_label(s)}
    names |= {label: label for label in found}
    for pair in options:
        name = owner(pair, names)
        if name is None:
            known = ", ".join(found)
            raise InputError(f"--option {pair}: expected LABEL.KEY=VALUE with one of {known}")
        found[names[name]].append(pair[len(name) + 1 :])
    return found


def _with_presets(found: Sequence[Competitor], presets: Sequence[str]) -> list[Competitor]:
    """Return the competitors with their presets. Raises ``InputError``."""
    if not presets:
        return list(found)
    given: dict[str, str] = {}
    labels = [each.label for each in found]
    for text in presets:
        label, equals, preset = text.rpartition("=")
        if equals and label not in labels:
            known = ", ".join(labels)
            raise InputError(f"--preset {text}: expected LABEL=PRESET with one of {known}")
        if label in given:
            raise InputError(f"--preset {text}: is the second for {label or 'all learners'}")
        given[label] = preset
    shared = given.get("")
    if shared is not None and not any(trained(each) for each in found):
        raise InputError(
            f"--preset {shared}: no scheduler here is trained. Try: --schedulers with a learner"
        )
    return [
        replace(each, preset=given.get(each.label, shared if trained(each) else None))
        for each in found
    ]


def trained(competitor: Competitor) -> bool:
    """Whether a competitor learns and was not given a policy."""
    learns = issubclass(registry.load(competitor.scheduler), Learner)
    return learns and "policy" not in competitor.options


@dataclass(frozen=True)
class CompetitorOptions:
    """The options of a competitor."""

    of_runs: dict[str, Any]
    """Those that were given to its runs."""
    defaults: str
    """The defaults of the options of runs, as JSON."""
    of_training: TrainingSettings | None
    """All those of its training, if there is one."""


def check_options(competitor: Competitor) -> CompetitorOptions:
    """Return the options of the runs, and all those of the training if there is one.

    Options that are no parameters of the scheduler's ``__init__`` belong to its training; the
    ``settings`` of the class list them. Some, such as ``features``, are of both.

    Raises:
        SchedulerError: An option or the preset is wrong.
    """
    name, given = competitor.scheduler, competitor.options
    cls = registry.load(name)
    defaults = json.dumps(registry.default_options(name, cls))
    if not trained(competitor):
        registry.check_options(name, cls, given)
        return CompetitorOptions(given, defaults, None)
    known = inspect.signature(cls).parameters
    of_runs = {key: value for key, value in given.items() if key in known}
    both = cls.settings.model_fields if issubclass(cls, Learner) else {}
    of_training = {k: value for k, value in given.items() if k not in known or k in both}
    registry.check_options(name, cls, of_runs | {"policy": "its own"})
    settings = resolve_settings(name, of_training, competitor.preset)
    return CompetitorOptions(of_runs, defaults, settings)
