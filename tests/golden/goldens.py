"""Computes the goldens in a separate process, with pinned numerics for trainings.

numpy, OpenBLAS, MKL, torch and the C library choose their kernels by the CPU at hand, and these
differ in the last bit. They choose when they are loaded, so the environment is pinned for a fresh
interpreter. It computes many goldens, as it takes a second to start.

Runs use no such kernel (see `mecsim.support.portable_math`): their goldens are compared with
unpinned numerics and, in a slow test, with pinned ones. Trainings move on an AMD EPYC (Zen 5) with
numpy 2.4.6 and torch 2.13.0 with the kernels of OpenBLAS (mtl-a3c and a3c), MKL and torch (all
learners), but not with threads, oneDNN or the CPU for which numba compiles. Goldens hold for the
versions in constraints.txt.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from tests.golden import cases

Record: TypeAlias = dict[str, str]
"""The hash or the value of everything that a run or a training left, by its name."""
Records: TypeAlias = dict[str, Record]
"""Records by scheduler and seed."""

FOLDER: Final = Path(__file__).parent
ROOT: Final = FOLDER.parents[1]
RUNS: Final = "runs"
TRAININGS: Final = "trainings"
QUICK_TRAININGS: Final = "quick-trainings"

LEFT_OUT: Final = ("wall_s", "trace", "kernel", "scenario", "overloaded", "miss_ratio")
"""Of a summary: what differs between machines and kernels, a name made of the overrides, and a
verdict and a ratio that follow from the other numbers."""

PINS: Final = {
    "OPENBLAS_CORETYPE": "Nehalem",  # numpy's matrix products
    "MKL_CBWR": "COMPATIBLE",  # torch's
    "ATEN_CPU_CAPABILITY": "default",  # torch's elementwise functions
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-FMA,-FMA4",  # exp, log, pow of libm
    "OMP_NUM_THREADS": "1",  # sums over threads come in pieces of another size
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MECSIM_COMPILE_NOTICE_SHOWN": "1",
}
DROPPED: Final = ("NUMBA_DISABLE_JIT", "PYTHONWARNINGS")
"""Goldens are of the compiled code; numpy warns of a feature that this CPU has not."""


def pinned_environment() -> dict[str, str]:
    """Return the environment of a process whose numerics do not depend on the CPU."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return kept | PINS | {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched())}


def dispatched() -> list[str]:
    """Return the CPU features for which this numpy has kernels besides its baseline."""
    umath = importlib.import_module("numpy._core._multiarray_umath")  # private; no other way
    return list(umath.__cpu_dispatch__)


def compute(what: str) -> dict[str, Records]:
    """Compute the goldens of all runs or of all trainings in a pinned process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", "--print", what],
        cwd=ROOT,
        env=pinned_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"computing the goldens of {what} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def compute_here(what: str) -> dict[str, Records]:
    """Compute the goldens of all runs or of all trainings in this process."""
    with tempfile.TemporaryDirectory() as folder:
        if what in (TRAININGS, QUICK_TRAININGS):
            chosen = cases.TRAININGS if what == TRAININGS else cases.QUICK_TRAININGS
            trained = {
                f"{learner} {load}": train(learner, load, Path(folder)) for learner, load in chosen
            }
            return {TRAININGS: trained}
        return {name: _runs(case, Path(folder)) for name, case in cases.CASES.items()}


def _runs(case: cases.Case, folder: Path) -> Records:
    """Run a case under all schedulers and seeds."""
    return {
        f"{scheduler} {seed}": run(case, scheduler, seed, "compiled", folder)
        for scheduler in cases.SCHEDULERS
        for seed in cases.SEEDS
    }


def run(case: cases.Case, scheduler: str, seed: int, kernel: str, folder: Path) -> Record:
    """Run a case and return the hashes of its trace's columns and its summary."""
    trace = folder / "trace.h5"
    summary = _command(cases.run_arguments(case, scheduler, seed, kernel, str(trace)))
    return trace_record(trace) | summary_record(summary)


def train(learner: str, load: str, folder: Path) -> Record:
    """Train a policy and return the hashes of its arrays, and its learning curve."""
    from safetensors.numpy import load_file  # noqa: PLC0415 - of no use to runs

    policy = folder / "policy.safetensors"
    reported = _command(cases.training_arguments(learner, load, str(policy)))
    curve = {
        f"curve.{i}.{k}": repr(v) for i, at in enumerate(reported["curve"]) for k, v in at.items()
    }
    arrays = {f"policy/{name}": hash_of(array) for name, array in load_file(policy).items()}
    return dict(sorted(arrays.items())) | curve


def _command(arguments: list[str]) -> dict[str, Any]:
    """Run a command of mecsim and return the JSON that it prints."""
    from typer.testing import CliRunner  # noqa: PLC0415

    from mecsim.cli import app  # noqa: PLC0415 - of no use to comparing

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    if result.exit_code:
        raise RuntimeError(f"mecsim {' '.join(arguments)}: exit {result.exit_code}")
    return json.loads(result.stdout)


def trace_record(path: Path) -> Record:
    """Return the hash of every column of a trace."""
    import h5py  # noqa: PLC0415

    found: Record = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[f"/{name}"] = hash_of(item[()])

    with h5py.File(path) as file:
        file.visititems(note)
    return dict(sorted(found.items()))


def summary_record(summary: Mapping[str, Any]) -> Record:
    """Return the numbers of a summary as they are, and one hash a column of its resources."""
    record: Record = {}
    for name, value in summary.items():
        if name in LEFT_OUT:
            continue
        if isinstance(value, list):
            for key in value[0] if value else ():
                record[f"{name}.{key}"] = hash_of_values(each[key] for each in value)
        elif isinstance(value, dict):
            record |= {f"{name}.{key}": repr(each) for key, each in value.items()}
        else:
            record[name] = repr(value)
    return record


def hash_of(array: Any) -> str:
    """Return a hash of an array's type, shape and bytes: 64 bits of its SHA-256, and the type."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.str} {array.shape} ".encode()
    shape = "x".join(map(str, array.shape))
    return f"{_digest(head + array.tobytes())} {array.dtype.str} {shape}"


def hash_of_values(values: Iterable[Any]) -> str:
    """Return a hash of plain values; floats are taken to the last bit."""
    return _digest(repr(list(values)).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def path_of(name: str) -> Path:
    """Return the file that holds the goldens of a case."""
    return FOLDER / f"{name}.json"


def read(name: str) -> Records:
    """Return the goldens of a case."""
    return json.loads(path_of(name).read_text(encoding="utf-8"))


def write(name: str, records: Records) -> None:
    """Write the goldens of a case."""
    path_of(name).write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def moved(golden: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return one line for everything that is not as it was."""
    lines = []
    for name in sorted({*golden, *found}):
        was, now = golden.get(name, "(absent)"), found.get(name, "(absent)")
        if was != now:
            lines.append(f"{name}: was {was}, is {now}")
    return lines
