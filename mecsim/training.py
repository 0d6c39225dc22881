"""Training of learning schedulers: options in, policy, learning curve and checkpoints out."""

from __future__ import annotations

import ast
import glob
import inspect
import json
import logging
import math
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from pydantic import TypeAdapter

from mecsim import registry
from mecsim.errors import InputError, Interrupted, SchedulerError
from mecsim.files import remove_unfinished, told
from mecsim.learning import Checkpoint, Learner, Task
from mecsim.model import self_contained
from mecsim.policy_file import (
    SUFFIX,
    Policy,
    PolicyHeader,
    read_tensors,
    write_policy,
    write_tensors,
)
from mecsim.scenario import RecordedTasks, Scenario
from mecsim.scheduler import feature_names
from mecsim.store.curve import MEASURES, write_curve
from mecsim.store.events import EventFile

_log = logging.getLogger(__name__)

MOST_WORKERS: Final = 16
KEEP_SECONDS: Final = 2.0
"""Wall time between checkpoints, at least."""
_KEY: Final = "mecsim-checkpoint"

Progress: TypeAlias = Callable[[float, float, str], None]
"""Told the episodes done, all episodes, and what was measured last."""


@dataclass(frozen=True)
class Files:
    """What a training writes, all named after the policy."""

    policy: Path

    @property
    def curve(self) -> Path:
        """The learning curve, HDF5."""
        return self.policy.with_name(f"{self.stem}.curve.h5")

    @property
    def events(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.policy.with_name(f"{self.stem}.tensorboard")

    @property
    def checkpoint(self) -> Path:
        """What ``resume`` goes on from; gone when training is complete."""
        return self.policy.with_name(f"{self.stem}.checkpoint{SUFFIX}")

    @property
    def stem(self) -> str:
        """What all names begin with."""
        return self.policy.name.removesuffix(SUFFIX)


def train(
    scenario: Scenario,
    scheduler: str,
    options: Mapping[str, Any] | None = None,
    *,
    episodes: int,
    seed: int,
    workers: int,
    serial: bool,
    out: Path,
    engine: str = "local",
    name: str = "scenario",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a scheduler on a scenario; write its policy to ``out`` and return a summary.

    Learning curve, event files and checkpoints lie beside the policy, see :class:`Files`. With
    ``serial`` the same seed gives the same policy to the last bit. With the engine ``ray`` workers
    are on the Ray cluster to which this process is connected. With ``resume`` training goes
    on from the last checkpoint if there is one. Raises ``InputError`` for whatever is wrong with
    the input, ``TrainingError`` if the training fails and ``Interrupted`` on Ctrl-C.
    """
    learner = _learner(scheduler)
    settings = learner.settings(
        **registry.check_options(scheduler, learner.settings, options or {})
    )
    _check_counts(episodes, seed, workers, out)
    with scenario.locating():
        scenario = self_contained(scenario)
    if isinstance(scenario.arrivals, RecordedTasks):
        raise InputError("arrivals.process: trace: recorded tasks cannot be trained on; draw them")
    task = Task(scenario, settings, seed, episodes, 1 if serial else workers, serial, engine)
    with scenario.locating():
        spec = task.spec
    learner.untrained(spec, settings)  # tells what does not fit before anything is written
    files = Files(out)
    identity = {
        "scheduler": scheduler,
        "scenario_sha256": scenario.sha256(),
        "settings": asdict(settings),
        "episodes": episodes,
        "seed": seed,
        "serial": serial,
    }
    if resume and out.exists() and not files.checkpoint.exists():
        raise InputError(f"{out}: is complete; without --resume it is trained anew")
    with ExitStack() as stack:
        diary = Records(files, identity, episodes, resume=resume, progress=progress)
        stack.callback(diary.close)
        try:
            trained = learner.train(task, diary)
        except KeyboardInterrupt:
            raise Interrupted(diary.interrupted()) from None
    summary = {
        "scenario": name,
        "scheduler": scheduler,
        "seed": seed,
        "episodes": episodes,
        "workers": task.workers,
        "serial": serial,
        "validation_reward": trained.validation_reward,
    }
    header = PolicyHeader(
        scheduler=learner.name,
        scenario=name,
        scenario_sha256=spec.scenario_sha256,
        blocks=spec.blocks,
        servers=spec.servers,
        epoch=spec.epoch,
        features=feature_names(spec),
        settings=asdict(settings),
        training={k: v for k, v in summary.items() if k not in ("scenario", "scheduler")},
        mecsim_version=version("mecsim"),
    )
    write_policy(out, Policy(header, trained.arrays))
    files.checkpoint.unlink(missing_ok=True)
    return summary | {
        "settings": asdict(settings),
        "wall_s": diary.wall_s,
        "curve": diary.curve(),
        "policy": str(out),
        "curve_file": str(files.curve),
        "events": str(files.events),
    }


def settings_of(scheduler: str) -> list[dict[str, str]]:
    """Return name, what is allowed, default and meaning of a learner's training options."""
    cls = _learner(scheduler).settings
    meaning = {name: text for base in reversed(cls.__mro__[:-1]) for name, text in _meanings(base)}
    schemas = TypeAdapter(cls).json_schema()["properties"]
    return [
        {
            "name": each.name,
            "allowed": _allowed(schemas[each.name]),
            "default": str(each.default),
            "meaning": meaning.get(each.name, ""),
        }
        for each in fields(cls)
    ]


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return in words what the JSON Schema of a plain value allows."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    texts = {
        "minimum": "{:g} or more",
        "exclusiveMinimum": "above {:g}",
        "maximum": "{:g} or less",
        "exclusiveMaximum": "below {:g}",
    }
    bounds = [text.format(schema[key]) for key, text in texts.items() if key in schema]
    if schema.keys() >= {"minimum", "maximum"}:
        bounds = [f"{schema['minimum']:g} to {schema['maximum']:g}"]
    return ", ".join([str(schema.get("type", "")), *bounds])


def _meanings(cls: type) -> Iterator[tuple[str, str]]:
    """Yield the fields of a class and the strings written below them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field_, below in pairwise(body.body):
        match field_, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, text


def _learner(scheduler: str) -> type[Learner]:
    found = registry.load(scheduler)
    if not issubclass(found, Learner):
        learners = ", ".join(name for name in registry.names() if _learns(name))
        raise SchedulerError(f"scheduler {scheduler!r}: does not learn; allowed: {learners}")
    return found


def _learns(name: str) -> bool:
    try:
        return issubclass(registry.load(name), Learner)
    except SchedulerError:
        return False  # a broken one harms no other


def _check_counts(episodes: int, seed: int, workers: int, out: Path) -> None:
    if episodes < 1:
        raise InputError(f"episodes: {episodes}; allowed: at least 1")
    if seed < 0:
        raise InputError(f"seed: {seed}; allowed: at least 0")
    if not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"workers: {workers}; allowed: 1 to {MOST_WORKERS}")
    if out.suffix != SUFFIX:
        raise InputError(f"{out}: a policy's name ends in {SUFFIX}")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; allowed: a file's name")


class Records:
    """What a training tells, written as it goes: see :class:`mecsim.learning.Diary`."""

    def __init__(
        self,
        files: Files,
        identity: Mapping[str, Any],
        episodes: int,
        *,
        resume: bool,
        progress: Progress | None,
    ) -> None:
        self._files, self._identity, self._episodes = files, dict(identity), episodes
        self._progress, self._latest = progress, dict[str, float]()
        self._rows: list[dict[str, float]] = []
        self._before_s = 0.0
        self._pending: tuple[dict[str, Any], dict[str, Any], int] | None = None
        self._checkpoint = self._read(resume=resume)
        with told(files.policy.parent):
            files.policy.parent.mkdir(parents=True, exist_ok=True)
            if self._checkpoint is None and files.events.is_dir():
                shutil.rmtree(files.events)
        remove_unfinished(files.policy.parent, f"{glob.escape(files.stem)}.*")
        self._events = EventFile(files.events)
        self._began = self._kept = time.monotonic()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where an earlier attempt stopped."""
        return self._checkpoint

    @property
    def wall_s(self) -> float:
        """Wall time of this training, earlier attempts included."""
        return self._before_s + time.monotonic() - self._began

    def note(self, share: float, measures: Mapping[str, float]) -> None:
        """Add a row to the learning curve, and tell it."""
        told = {
            name: float(value)
            for name, value in measures.items()
            if name in MEASURES and math.isfinite(value)  # nothing was learned in some rounds
        }
        episode = share * self._episodes
        self._rows.append({"share": share, "episode": episode, "wall_s": self.wall_s} | told)
        self._latest |= told
        self._events.add(told, round(episode), self.wall_s)
        if self._progress is not None:
            self._progress(episode, self._episodes, _brief(self._latest))

    def keep(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Write a checkpoint if the last one is some time ago."""
        copies = {name: x.copy() for name, x in arrays.items()}
        self._pending = copies, dict(state), len(self._rows)
        if time.monotonic() - self._kept >= KEEP_SECONDS:
            self._write()

    def warn(self, message: str) -> None:
        """Tell the user."""
        _log.warning("%s", message)

    def interrupted(self) -> str:
        """Write what there is; return what was kept."""
        if self._pending is None and self._checkpoint is None:
            return "stopped; nothing was learned yet"
        if self._pending is not None:
            del self._rows[self._pending[2] :]  # what was noted since is done again
        self._write()
        done = self._rows[-1]["episode"] if self._rows else 0.0
        kept = f"{done:.0f} of {self._episodes} episodes are kept in {self._files.checkpoint}"
        return f"stopped; {kept}; the same command with --resume goes on"

    def curve(self) -> list[dict[str, float]]:
        """Return the evaluations: episode and reward."""
        found = [row for row in self._rows if "validation_reward" in row]
        return [{"episode": r["episode"], "reward": r["validation_reward"]} for r in found]

    def close(self) -> None:
        """Write the learning curve and let the files go."""
        self._events.close()
        if self._rows:
            write_curve(self._files.curve, self._rows, self._identity)

    def _write(self) -> None:
        if self._pending is None:
            return
        arrays, state, _ = self._pending
        document = {
            "identity": self._identity,
            "state": state | {"wall_s": self.wall_s},
            "rows": self._rows,
        }
        write_tensors(self._files.checkpoint, {_KEY: json.dumps(document)}, arrays)
        write_curve(self._files.curve, self._rows, self._identity)
        self._kept = time.monotonic()

    def _read(self, *, resume: bool) -> Checkpoint | None:
        path = self._files.checkpoint
        if not path.exists():
            return None
        if not resume:
            raise InputError(
                f"{path}: is of a training that was stopped; --resume goes on with it; "
                "to begin anew, delete it or choose another --out"
            )
        metadata, arrays = read_tensors(path)
        try:
            document = json.loads(metadata[_KEY])
            identity, state = document["identity"], document["state"]
            rows = [{str(k): float(v) for k, v in row.items()} for row in document["rows"]]
            self._before_s = float(state["wall_s"])
            was, now = _flat(identity), _flat(json.loads(json.dumps(self._identity)))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: is no checkpoint of mecsim ({error!r})") from error
        for key, value in now.items():
            if was.get(key) != value:
                changed = f"{key} was {was.get(key)}, now {value}"
                raise InputError(f"{path}: is of another training: {changed}")
        self._rows = rows
        return Checkpoint(arrays, state)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """Return what a training is, its settings one by one."""
    return {k: v for k, v in identity.items() if k != "settings"} | identity["settings"]


def _brief(measures: Mapping[str, float]) -> str:
    """Return the latest measures in a few words."""
    names = {"validation_reward": "reward", "entropy": "entropy"}
    known = {short: measures[name] for name, short in names.items() if name in measures}
    finite = {short: value for short, value in known.items() if math.isfinite(value)}
    return ", ".join(
        f"{short} {np.format_float_positional(value, 3)}" for short, value in finite.items()
    )
