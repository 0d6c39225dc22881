"""Training of learning schedulers: options in, policy, learning curve and checkpoints out."""

from __future__ import annotations

import ast
import inspect
import logging
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from mecsim.errors import InputError, Interrupted, SchedulerError
from mecsim.learning.interface import Learner, Task
from mecsim.learning.policy_file import (
    SUFFIX,
    Policy,
    PolicyHeader,
    write_policy,
)
from mecsim.learning.recorder import Files, Progress, Records
from mecsim.model.model import self_contained
from mecsim.scenario.schema import RecordedTasks, Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.observation import feature_names

_log = logging.getLogger(__name__)

MOST_WORKERS: Final = 16


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
        decision_epoch=spec.decision_epoch,
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
