"""Times of layers on this machine: what is measured and noted, not how long it takes."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch
from torch import nn

from mecsim.dnn.profiler import profile_module
from mecsim.dnn.timing import Timing
from mecsim.errors import ProfileError
from tests.helpers.modules import Residual, ShapeDependent, Tokens

QUICK = Timing("here", warm_up=1, repetitions=6)


@pytest.mark.parametrize("cpu_time", [False, True])
def test_measure(cpu_time: bool) -> None:
    settings = Timing("here", 1, warm_up=0, repetitions=6, cpu_time=cpu_time)
    graph = profile_module(Residual(), (3, 8, 8), "residual", timing=settings)
    assert profile_module(Residual(), (3, 8, 8), "residual").layers == graph.layers
    (measured,) = graph.measured.values()
    assert min(measured.ms) > 0
    assert measured.whole_ms
    assert measured.interval_ms is not None
    for ms, (low, high) in zip(measured.ms, measured.interval_ms, strict=True):
        assert low <= ms <= high
    assert {"cpu", "cores", "threads", "torch", "os"} <= measured.machine.keys()
    assert measured.machine["threads"] == 1
    assert measured.method.startswith("CPU time" if cpu_time else "elapsed time")


class Sleepy(nn.Module):
    """A layer whose clock is known: each call of the activation advances it by 2 ms."""

    now = 0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.activation = Tick()

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(self.activation(self.first(x)))


class Tick(nn.ReLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Sleepy.now += 2_000_000
        return super().forward(x)


Tick.__module__ = "torch.nn.modules.tick"  # a leaf of the traced graph


def test_a_layer_has_the_time_of_the_operations_fused_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "perf_counter_ns", lambda: Sleepy.now)
    graph = profile_module(Sleepy(), (4,), "sleepy", timing=QUICK)
    measured = graph.measured["here"]
    assert [layer.name for layer in graph.layers] == ["first", "second"]
    assert (measured.ms, measured.whole_ms) == ((2.0, 0.0), 2.0)
    assert measured.interval_ms == ((2.0, 2.0), (0.0, 0.0))


@pytest.mark.parametrize(
    ("module", "shape", "kind"), [(ShapeDependent(), (8,), None), (Tokens(), (5,), "int64")]
)
def test_measure_other_modules(module: nn.Module, shape: tuple[int, ...], kind: str | None) -> None:
    """One that torch.export traces, and one of tokens."""
    graph = profile_module(module, shape, "other", input_type=kind, timing=QUICK)
    assert math.fsum(graph.measured["here"].ms) > 0


def test_the_module_and_pytorch_are_left_as_they_were() -> None:
    module, threads, seen = Residual(), torch.get_num_threads(), list[tuple[int, int]]()
    module.head.eval()
    settings = Timing("here", 1, 1, 6, progress=lambda done, total: seen.append((done, total)))
    profile_module(module, (3, 8, 8), "residual", timing=settings)
    assert (module.training, module.conv.training, module.head.training) == (True, True, False)
    assert torch.get_num_threads() == threads
    assert seen == [(n, 7) for n in range(1, 8)]


def test_cpu_time_of_several_threads() -> None:
    settings = Timing("here", 2, cpu_time=True)
    with pytest.raises(ProfileError, match="is timed with 2 threads; CPU time needs 1 thread"):
        profile_module(Residual(), (3, 8, 8), "residual", timing=settings)
