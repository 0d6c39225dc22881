"""Measures the time of each layer of a PyTorch module on this machine.

Layers are timed in place: in every pass, the operations run in their order on what the previous
ones computed, and a clock is read before and after each. Repeated alone, a layer may find its
weights and its input in the cache, where they are not when other layers run in between. The clock
leaves out what happens between the operations, so the sum over the layers is reported next to the
time of the whole forward pass without any clock. Passes of both kinds alternate, so that both meet
the same load.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import fx, nn

from mecsim.dnn.measurement import Measurement
from mecsim.dnn.tracing import trace
from mecsim.errors import ProfileError
from mecsim.support.arrays import Floats
from mecsim.support.intervals import median_interval
from mecsim.support.text import error_line

LEAST_REPETITIONS: Final = 6
"""The fewest values that have a 95% interval of the median."""


@dataclass(frozen=True)
class Timing:
    """How the layers of a module are timed."""

    node: str
    """Type of node that this machine stands for."""
    threads: int | None = None
    """Threads of PyTorch within an operation; by default those that it uses anyway, and 1 with
    ``cpu_time``."""
    warm_up: int = 10
    """Passes before the first that counts, of each kind."""
    repetitions: int = 100
    """Passes that count, of each kind; at least `LEAST_REPETITIONS`."""
    cpu_time: bool = False
    """Measure the processor time of one thread: what other programs take does not count."""
    progress: Callable[[int, int], None] | None = None
    """Called with the passes done and their number."""


def measure(
    module: nn.Module,
    input_shape: Sequence[int],
    kind: torch.dtype | None,
    layers: Sequence[str],
    owners: Mapping[str, str],
    timing: Timing,
) -> Measurement:
    """Time the layers of a module for one input (batch 1), in inference mode.

    Args:
        module: The module, with parameters in memory. It is not changed.
        input_shape: Shape of one raw input, without the batch dimension.
        kind: Type of the numbers of the input; by default that of the parameters.
        layers: Names of the layers.
        owners: The layer of each operation of the traced module, by the operation's name.
        timing: How to measure.

    Raises:
        ProfileError: If a pass fails.
    """
    if timing.cpu_time and timing.threads not in (None, 1):
        raise ProfileError(f"is timed with {timing.threads} threads; CPU time needs 1 thread")
    threads = 1 if timing.cpu_time else timing.threads
    with _inference(module), _threads(threads), torch.inference_mode():
        x = _input(module, input_shape, kind)
        try:
            passes, whole = _passes(module, trace(module, x), x, timing)
        except ProfileError:
            raise
        except Exception as error:  # running a module runs the user's code
            raise ProfileError(f"fails while it is timed: {error_line(error)}") from error
        conditions = machine()
    ms = _by_layer(passes, layers, owners).T
    ends = [median_interval(each) for each in ms]
    return Measurement(
        ms=tuple(_rounded(np.median(each)) for each in ms),
        interval_ms=tuple((_rounded(low), _rounded(high)) for low, high in ends),
        whole_ms=_rounded(np.median(whole)),
        method=(
            f"{'CPU time' if timing.cpu_time else 'elapsed time'}, median of {timing.repetitions} "
            f"passes after {timing.warm_up}, layers timed in place, batch 1"
        ),
        machine=conditions,
    )


def _input(module: nn.Module, shape: Sequence[int], kind: torch.dtype | None) -> torch.Tensor:
    """Return random numbers, or zeros for integers, which an embedding accepts."""
    like = next(module.parameters(), torch.zeros(()))
    kind = kind or like.dtype
    if not kind.is_floating_point:
        return torch.zeros((1, *shape), dtype=kind, device=like.device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn((1, *shape), generator=generator).to(like.device, kind)


def _passes(
    module: nn.Module, traced: fx.GraphModule, x: torch.Tensor, timing: Timing
) -> tuple[list[dict[str, float]], list[float]]:
    """Return the ms of each operation in each pass with clocks, and of each pass without."""
    clock = time.thread_time_ns if timing.cpu_time else time.perf_counter_ns
    clocked = _Clock(traced, clock)
    clocks, whole = [], []
    total = timing.warm_up + timing.repetitions
    for done in range(1, total + 1):
        clocked.ms = {}
        clocked.run(x)
        start = clock()
        module(x)
        end = clock()
        if done > timing.warm_up:
            clocks.append(clocked.ms)
            whole.append((end - start) / 1e6)
        if timing.progress is not None:
            timing.progress(done, total)
    return clocks, whole


class _Clock(fx.Interpreter):
    """Runs a graph and notes how long each operation takes, without fetching its arguments."""

    def __init__(self, module: fx.GraphModule, clock: Callable[[], int]) -> None:
        super().__init__(module)
        self._now = clock
        self.ms: dict[str, float] = {}
        self._node = ""

    def run_node(self, n: fx.Node) -> Any:
        self._node = n.name
        return super().run_node(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._timed(self.fetch_attr(target), args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._timed(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._timed(getattr(args[0], target), args[1:], kwargs)

    def _timed(
        self, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        start = self._now()
        value = operation(*args, **kwargs)
        self.ms[self._node] = (self._now() - start) / 1e6
        return value


def _by_layer(
    passes: Sequence[Mapping[str, float]], layers: Sequence[str], owners: Mapping[str, str]
) -> Floats:
    """Return the time of each layer in each pass in ms; shape (passes, layers)."""
    position = {name: index for index, name in enumerate(layers)}
    found = np.zeros((len(passes), len(layers)))
    for row, clocks in zip(found, passes, strict=True):
        for operation, ms in clocks.items():
            if operation in owners:
                row[position[owners[operation]]] += ms
    return found


def _rounded(ms: float) -> float:
    """Return a time to the nanosecond, as the clock gives it."""
    return round(float(ms), 6)


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode and back into the modes that its parts had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Set the threads of PyTorch within an operation, and restore them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, str | int | float]:
    """Return what the times depend on."""
    found: dict[str, str | int | float] = {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "os": platform.platform(),
    }
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def _cpu() -> str:
    """Return the name of the processor; only Linux needs its own way to find it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor()) or platform.machine()
