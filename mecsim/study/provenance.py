"""Where a comparison comes from: command, commits, versions, seeds and resolved scenarios."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypedDict

from mecsim.study.plan import Study, Trial
from mecsim.study.sweep import Point
from mecsim.support.checkout import Commit, commit_of

FILE: Final = "provenance.json"
_PACKAGES: Final = ("mecsim", "numpy", "numba", "simpy", "h5py", "matplotlib")
"""Packages that compute or draw; those that a job names are added."""


class SourceFile(TypedDict):
    """A file of a user that a job read: a scheduler, a policy, recorded tasks."""

    file: str
    sha256: str
    commit: Commit | None


class ResolvedScenario(TypedDict):
    """A scenario at a point of the sweep, with all its values in SI units."""

    scenario: str
    sweep: Point
    values: dict[str, Any]


class StudyProvenance(TypedDict):
    """The document in :data:`FILE`."""

    created_utc: str
    command: list[str] | None
    """The words of the command line; None for a call of the library."""
    request: dict[str, Any]
    """What was asked for."""
    mecsim: str
    commit: Commit | None
    """That of mecsim's checkout; None if mecsim is installed."""
    python: str
    platform: str
    processor: str
    packages: dict[str, str]
    seeds: list[int]
    training_seeds: list[int]
    schedulers: dict[str, dict[str, Any]]
    files: list[SourceFile]
    scenarios: list[ResolvedScenario]


def provenance(
    request: Any, study: Study, trials: Sequence[Trial], command: Sequence[str] | None
) -> StudyProvenance:
    """Return where a comparison comes from.

    Args:
        request: What was asked for; a dataclass.
        study: The design that follows.
        trials: Its trials.
        command: The words of the command line; None for a call of the library.
    """
    jobs = [trial.job for trial in trials]
    versions = {name: text for job in jobs for name, text in job.versions}
    files = {name: digest for job in jobs for name, digest in job.files}
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": None if command is None else list(command),
        "request": _document({k: v for k, v in vars(request).items() if k != "command"}),
        "mecsim": version("mecsim"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "packages": dict(sorted((_versions() | versions).items())),
        "seeds": list(study.seeds),
        "training_seeds": list(study.training_seeds),
        "schedulers": {each.label: _document(vars(each)) for each in study.competitors},
        "files": [
            {"file": name, "sha256": digest, "commit": commit_of(Path(name))}
            for name, digest in sorted(files.items())
        ],
        "scenarios": _scenarios(trials),
    }  # fmt: skip


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _scenarios(trials: Sequence[Trial]) -> list[ResolvedScenario]:
    """Return each scenario at each point, once."""
    texts = {
        (trial.scenario, json.dumps(trial.point), trial.job.scenario): trial for trial in trials
    }
    return [
        {"scenario": each.scenario, "sweep": each.point, "values": json.loads(each.job.scenario)}
        for each in texts.values()
    ]


def _document(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(values), default=_plain))
    return found


def _plain(value: Any) -> Any:
    """Return a value that JSON lacks as plain data."""
    if hasattr(value, "__dict__"):
        return vars(value)
    return list(value) if isinstance(value, range | set | frozenset) else str(value)


def command_line() -> list[str]:
    """Return the words of the command line of this process."""
    return ["mecsim", *sys.argv[1:]]
