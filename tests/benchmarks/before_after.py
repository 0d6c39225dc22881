"""Compares the speed of two checkouts: `python tests/benchmarks/before_after.py --before FOLDER`.

Each checkout has a worker, a process that stays, with its checkout first on sys.path. Both do the
same work in turn, round after round, and take turns at being first: what else the machine does
meets both. A ratio is the time of the checkout before over that of this one, so more than 1 means
that this one is faster. Nothing is asserted: machines are shared and noisy. With `--cpu` the times
are CPU times, which other processes disturb less.

`--python-before` names the interpreter of the other checkout, if what is installed in this one's
environment (entry points above all) does not fit it any more. A worker finds what the checkouts
call differently by the table `HOMES`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final, Self, TextIO, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[2]
SCENARIO: Final = "scenarios/vgg16_loaded.yaml"
PLACEMENT: Final = [3, 4, 2, 1, 1, 0]
REPLICAS: Final = 16
EPOCHS_A_CALL: Final = 64
START: Final = "start: `mecsim run`, 2 slots"
REQUIREMENTS: Final = "import numpy, simpy, h5py, numba, pydantic, yaml, pint, typer, rich"

HOMES: Final[dict[str, tuple[str, ...]]] = {
    "Replicas": ("mecsim.learning", "mecsim.simulation.replicas", "mecsim.replicas"),
    "load": ("mecsim", "mecsim.scenario"),
    "run": ("mecsim", "mecsim.simulation", "mecsim.experiment"),
    "app": ("mecsim.cli",),
}
"""Modules in which a name is looked for, one after the other."""

Work: TypeAlias = Callable[[int], object]
"""Does a piece of work under a seed."""
Timer: TypeAlias = Callable[[str, int], float]
"""Returns the seconds that a named piece of work takes under a seed."""


def find(name: str) -> Any:
    """Return what a checkout calls by this name, wherever it is there."""
    for module in HOMES[name]:
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"{name}: not in {', '.join(HOMES[name])}; add its home to HOMES")


# ---------------------------------------------------------------- in a worker


def works(folder: Path) -> dict[str, Work]:
    """Return what is measured, by its name; files go to ``folder``."""
    load, run = find("load"), find("run")
    scenario, short = load(SCENARIO), load(SCENARIO, ["slots=60"])
    fixed: dict[str, Any] = {"scheduler": "fixed", "options": {"placement": PLACEMENT}}
    greedy: dict[str, Any] = {"scheduler": "greedy", "out": folder / "greedy.h5"}
    trace = folder / "fixed.h5"
    return {
        "`fixed`, compiled, no trace": lambda seed: run(
            scenario, **fixed, seed=seed, kernel="compiled"
        ),
        "`fixed`, compiled, trace": lambda seed: run(
            scenario, **fixed, seed=seed, kernel="compiled", out=trace
        ),
        "`greedy`, compiled, trace": lambda seed: run(
            scenario, **greedy, seed=seed, kernel="compiled"
        ),
        "`greedy`, simpy, trace, 60 slots": lambda seed: run(
            short, **greedy, seed=seed, kernel="simpy"
        ),
        **replica_works(scenario),
        "training of mtl-a3c, 4 episodes": training_work(folder),
    }


def replica_works(scenario: Any) -> dict[str, Work]:
    """Return whole episodes of replicas: one epoch a call, and many."""
    import numpy as np  # noqa: PLC0415 - a worker's own

    replicas = find("Replicas")(scenario, REPLICAS)
    one = np.tile(PLACEMENT, (REPLICAS, 1))
    many = np.tile(PLACEMENT, (EPOCHS_A_CALL, REPLICAS, 1))

    def episode(seed: int, act: Callable[[], object]) -> None:
        replicas.reset(range(seed * REPLICAS, (seed + 1) * REPLICAS))
        while not replicas.ended.all():
            act()

    return {
        f"{REPLICAS} replicas, `step`": lambda seed: episode(seed, lambda: replicas.step(one)),
        f"{REPLICAS} replicas, `roll` of {EPOCHS_A_CALL}": lambda seed: episode(
            seed, lambda: replicas.roll(many)
        ),
    }


def training_work(folder: Path) -> Work:
    """Return a short serial training, from the command line but in this process."""
    app = find("app")
    command = ["train", SCENARIO, "--scheduler", "mtl-a3c", "--serial", "--episodes", "4"]
    command += ["--quiet", "--out", str(folder / "policy.safetensors")]

    def train(seed: int) -> None:
        if code := app([*command, "--seed", str(seed)], standalone_mode=False):
            raise RuntimeError(f"mecsim {' '.join(command)}: exit {code}")

    return train


def serve(answers: TextIO) -> None:
    """Do the work that stdin asks for, a line each; answer with wall and CPU seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        known = works(Path(folder))
        _answer(answers, {"works": list(known), "mecsim": import_module("mecsim").__file__})
        for line in sys.stdin:
            asked = json.loads(line)
            work = known[asked["work"]]
            began, cpu_began = time.perf_counter(), time.process_time()
            work(asked["seed"])
            cpu = time.process_time() - cpu_began
            _answer(answers, {"wall": time.perf_counter() - began, "cpu": cpu})


def _answer(answers: TextIO, value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def work_in(checkout: Path) -> None:
    """Be the worker of a checkout."""
    sys.path[0] = str(checkout)  # in place of this script's folder
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever mecsim prints is no answer
    serve(answers)


# ---------------------------------------------------------------- in the process that compares


class Worker:
    """A process that works in a checkout."""

    def __init__(self, checkout: Path, python: str, clock: str) -> None:
        self.checkout, self.python, self.clock = checkout, python, clock
        self._process = subprocess.Popen(
            [python, __file__, "--worker", str(checkout)],
            cwd=checkout,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hello = self._read()
        if not Path(hello["mecsim"]).is_relative_to(checkout):
            raise RuntimeError(f"{checkout}: its worker has loaded {hello['mecsim']}")
        self.works: list[str] = hello["works"]

    def seconds(self, work: str, seed: int) -> float:
        """Let it do some work; return what that took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"work": work, "seed": seed}) + "\n")
        self._process.stdin.flush()
        return float(self._read()[self.clock])

    def start_seconds(self, work: str, seed: int) -> float:
        """Return what a process of its checkout takes that does next to nothing."""
        del work
        command = ["-m", "mecsim", "run", SCENARIO, "--scheduler", "greedy", "--quiet"]
        command += ["--set", "slots=2", "--no-trace", "--seed", str(seed)]
        return process_seconds([self.python, *command], self.checkout, self.clock)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.checkout}: its worker has ended; see above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def environment() -> dict[str, str]:
    """Return the environment of all processes: one thread each, as cores are few."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    notice = ("MECSIM_COMPILE_NOTICE_SHOWN", "MECSIM_COMPILING_TOLD")  # the second: older checkouts
    return kept | dict.fromkeys((*threads, *notice), "1")


def process_seconds(command: Sequence[str], folder: Path, clock: str) -> float:
    """Return the wall or CPU seconds of a process from start to end."""
    began, cpu_began = time.perf_counter(), cpu_of_children()
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return cpu_of_children() - cpu_began if clock == "cpu" else time.perf_counter() - began


def cpu_of_children() -> float:
    """Return the CPU seconds, user and system, of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def in_turn(timers: Mapping[str, Timer], work: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every round; all do the same, and each is first in turn."""
    names = list(timers)
    for name in names:
        timers[name](work, 0)  # compiles, reads files into the page cache
    took: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(1, rounds + 1):
        first = seed % len(names)
        for name in names[first:] + names[:first]:
            took[name].append(timers[name](work, seed))
    return took


def line(work: str, before: Sequence[float], after: Sequence[float]) -> str:
    """Return the line of the table that compares two series of seconds."""
    ratios = [one / other for one, other in zip(before, after, strict=True)]
    times = " | ".join(f"{1000 * median(each):.2f}" for each in (before, after))
    return f"| {work} | {times} | {median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f} |"


def compare(before: Worker, after: Worker, rounds: int, only: str) -> None:
    """Measure all work whose name contains ``only``; print a line as soon as it is measured."""
    checkouts = f"Before: {before.checkout}; after: {after.checkout}"
    print(f"{checkouts}; {after.clock} time; {rounds} rounds in turn.\n")
    print("| work | before: ms | after: ms | before / after: median | min | max |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for work in (name for name in after.works if only in name):
        took = in_turn({"before": before.seconds, "after": after.seconds}, work, rounds)
        print(line(work, took["before"], took["after"]), flush=True)

    def bare(work: str, seed: int) -> float:
        del work, seed
        return process_seconds([after.python, "-c", REQUIREMENTS], after.checkout, after.clock)

    if only not in START:
        return
    starts = {"before": before.start_seconds, "after": after.start_seconds, "bare": bare}
    took = in_turn(starts, START, rounds)
    print(line(START, took["before"], took["after"]))
    print(line("start: before, over imports only", took["before"], took["bare"]))
    print(line("start: after, over imports only", took["after"], took["bare"]))
    print(f"\nImports only: `{REQUIREMENTS}`")


def main() -> None:
    """Compare two checkouts, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="the other checkout")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--python-before", default=sys.executable, metavar="PATH")
    parser.add_argument("--cpu", action="store_true", help="compare CPU times, not wall times")
    parser.add_argument("--only", default="", metavar="TEXT", help="only work named with TEXT")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work_in(given.worker)
        return
    if given.before is None or given.rounds < 1:
        parser.error("--before FOLDER is needed, and --rounds of at least 1")
    clock = "cpu" if given.cpu else "wall"
    with (
        Worker(given.before.resolve(), given.python_before, clock) as before,
        Worker(ROOT, sys.executable, clock) as after,
    ):
        compare(before, after, given.rounds, given.only)


if __name__ == "__main__":
    main()
