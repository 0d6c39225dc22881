"""A scheduler that "learns", for tests of batches: its policy is one number, a server."""

from __future__ import annotations

import json
import logging
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mecsim import Observation, Placement, Scheduler, SchedulerSpec
from mecsim.learning import (
    Arrays,
    Learner,
    TrainingError,
    TrainingRequest,
    TrainingResult,
    TrainingSettings,
)

_log = logging.getLogger("mecsim.toy")


class ToySettings(TrainingSettings):
    """Options of the training."""

    wish: int = 0
    """Added to the seed."""


class Toy(Learner):
    """Everything to the server that the policy file names."""

    settings = ToySettings

    def __init__(self, spec: SchedulerSpec, *, policy: str) -> None:
        Scheduler.__init__(self, spec)  # its policy is no policy file
        self.server = int(json.loads(Path(policy).read_text(encoding="utf-8"))["server"])

    def decide(self, observation: Observation) -> Placement:
        return [self.server] * self.spec.blocks

    @classmethod
    def untrained(cls, *_: Any) -> Arrays:
        raise NotImplementedError

    def load(self, *_: Any) -> None:
        raise NotImplementedError

    @classmethod
    def train(cls, *_: Any) -> TrainingResult:
        raise NotImplementedError


class Wary(Toy):
    """Warns of its policy as shipped learners do of one that was trained elsewhere."""

    def __init__(self, spec: SchedulerSpec, *, policy: str) -> None:
        super().__init__(spec, policy=policy)
        _log.warning("policy %s was trained on another scenario", policy)


class Bad(Toy):
    """Cannot be trained."""


class Stacked(Toy):
    """Trainings of equal wishes can be one stack."""

    @classmethod
    def stack_key(cls, settings: Any) -> str | None:
        return str(settings.wish)


class Deadly(Scheduler):
    """Its process dies."""

    def decide(self, observation: Observation) -> Placement:
        import os  # noqa: PLC0415

        os._exit(9)


class Parent(Scheduler):
    """Starts a process of its own, as a training with several workers does."""

    def decide(self, observation: Observation) -> Placement:
        child = multiprocessing.Process(target=print)
        child.start()
        child.join()
        if child.exitcode:
            raise RuntimeError("the child has failed")
        return [1] * self.spec.blocks


class Faulty(Scheduler):
    """Fails in its third epoch on odd numbers of servers."""

    def decide(self, observation: Observation) -> Placement:
        if self.spec.servers % 2:
            raise ValueError("odd servers are not for me")
        return [1] * self.spec.blocks


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs train by :func:`train_stack`."""
    module = ModuleType("mecsim.learning.training")
    module.train_stack = train_stack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mecsim.learning.training", module)


def train_stack(requests: Sequence[TrainingRequest]) -> list[dict[str, Any] | TrainingError]:
    """Stand in for ``mecsim.learning.training.train_stack``.

    A training of seed 13 diverges, and one of seed 14 raises an error of all.
    """
    if any(request.seed == 14 for request in requests):
        raise MemoryError("too large")
    return [
        TrainingError("the training diverged") if each.seed == 13 else _train(each)
        for each in requests
    ]


def _train(request: TrainingRequest) -> dict[str, Any]:
    if request.scheduler.endswith("Bad"):
        raise ValueError("no policy found")
    assert request.serial == (request.workers == 1)
    server = 1 + (request.seed + request.options.get("wish", 0)) % request.scenario.server_count
    request.out.write_text(json.dumps({"server": server}), encoding="utf-8")
    episodes = range(0, request.episodes + 1, 5)
    curve = [{"episode": n, "reward": -100.0 / (n + 1)} for n in episodes]
    return {"curve": curve, "seed": request.seed, "policy": str(request.out)}
