"""Sweeps: keys of the scenario or of a competitor's options, and the points of their grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from mecsim.errors import InputError
from mecsim.scenario import yaml_source
from mecsim.scenario.schema import Scenario

Point: TypeAlias = dict[str, Any]
"""A point of a sweep: keys of the scenario (``radio.rate``) or ``LABEL.KEY`` to their values."""

SETTING: Final = "evaluated_on"
"""The key of a point that names a group of overrides (a setting) in place of a value."""


def parse_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read sweeps of the form ``KEY.PATH=V1,V2,…``, each value as YAML.

    >>> parse_sweep(["edge_servers=2,3", "radio.rate=0.8 MB/s"])
    {'edge_servers': [2, 3], 'radio.rate': ['0.8 MB/s']}

    Raises:
        InputError: The form is wrong, or a key or a value occurs twice.
    """
    sweep: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not key or key in sweep:
            raise InputError(f"--sweep {text}: expected KEY.PATH=V1,V2,…, each key once")
        if key == SETTING:
            raise InputError(f"--sweep {text}: {key} is reserved; expected a key of the scenario")
        found = yaml_source.parse(f"values: [{values}]", f"--sweep {text}").values["values"]
        if not found:
            raise InputError(f"--sweep {text}: no values")
        if len({json.dumps(value, default=str) for value in found}) < len(found):
            raise InputError(f"--sweep {text}: the same value twice")
        sweep[key] = found
    return sweep


def grid(sweep: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return all combinations of the values of a sweep; the last key changes fastest.

    >>> grid({"a": [1, 2], "b": [3]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def assignments(values: Mapping[str, Any]) -> list[str]:
    """Return values by key as overrides of a scenario.

    >>> assignments({"edge_servers": 3})
    ['edge_servers=3']
    """
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def owner(text: str, names: Iterable[str]) -> str | None:
    """Return the longest of the names that ``NAME.KEY`` can begin with; None if there is none.

    >>> owner("v1.2.budget=30", ["v1", "v1.2"])
    'v1.2'
    """
    return max((name for name in names if text.startswith(f"{name}.")), key=len, default=None)


class SplitPoint(NamedTuple):
    """A point of a sweep by what its keys belong to."""

    scenario: dict[str, Any]
    """Keys of the scenario to their values."""
    options: dict[str, dict[str, Any]]
    """Label of each competitor whose options are swept to these options."""
    setting: str | None
    """The setting that the point names."""


def split(point: Point, labels: Sequence[str]) -> SplitPoint:
    """Split a point of a sweep into values of the scenario and options of competitors.

    >>> split({"slots": 5, "quick.budget": 30}, ["greedy", "quick"])
    SplitPoint(scenario={'slots': 5}, options={'quick': {'budget': 30}}, setting=None)

    Args:
        point: The point.
        labels: The labels of all competitors.

    Raises:
        InputError: A key can belong to both, or to none of them.
    """
    found = SplitPoint({}, {}, point.get(SETTING))
    for key, value in point.items():
        label = owner(key, labels)
        if label is not None:
            _check_label(key, label)
            found.options.setdefault(label, {})[key[len(label) + 1 :]] = value
        elif key != SETTING:
            _check_key(key, labels)
            found.scenario[key] = value
    return found


def _check_label(key: str, label: str) -> None:
    section = key.partition(".")[0]
    if section in Scenario.model_fields:
        raise InputError(
            f"--sweep {key}: {section} is a key of the scenario, and the label {label!r} begins "
            "with it. Try: another label"
        )


def _check_key(key: str, labels: Sequence[str]) -> None:
    section, dot, _ = key.partition(".")
    if dot and section not in Scenario.model_fields:
        raise InputError(
            f"--sweep {key}: expected a key of the scenario, or LABEL.KEY with one of "
            f"{', '.join(labels)}"
        )
