"""A trace has the same bits with every instruction set, C library kernel and compiler setting."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mecsim.simulation.replay import replay, replay_with
from tests.golden.goldens import dispatched
from tests.helpers.builders import chain, scenario, simulate

FOLDER = Path(__file__).parents[2] / "scenarios"
PATH_LOSS: dict[str, Any] = {
    "slots": 4,
    "devices": 7,
    "arrivals": {"process": "mmpp", "rates": [2, 8], "mean_dwell": [2, 1]},
    "dnn": chain([1e9, 2e9], [1e6, 2e5]),
    "size_factor": {"distribution": "lognormal", "sigma": 0.5, "per": "block"},
    "radio": {"fading": "rayleigh"},
}
CASES: dict[str, dict[str, Any]] = {
    "everything drawn": PATH_LOSS,
    "no fading": PATH_LOSS | {"radio": {}, "size_factor": {"distribution": "exponential"}},
    "uniform": PATH_LOSS
    | {
        "arrivals": {"process": "deterministic", "rate": 3.3},
        "size_factor": {"distribution": "uniform", "low": 0.5, "high": 1.5},
        "radio": {"rate": {"uniform": [5e6, 2e7]}},
        "device": {"capacity": {"uniform": [1e9, 2e9]}},
    },
    "units": PATH_LOSS
    | {"radio": {"transmit_power": "21.7 dBm", "noise_density": "-173.3 dBm/Hz"}},
}
BASELINE = " ".join(dispatched())
WITHOUT_AVX512 = " ".join(feature for feature in dispatched() if feature != "X86_V3")
ENVIRONMENTS = {
    "numpy's baseline, compiled for any CPU": {
        "NPY_DISABLE_CPU_FEATURES": BASELINE,
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
    },
    "numpy without AVX-512, libm without FMA": {
        "NPY_DISABLE_CPU_FEATURES": WITHOUT_AVX512,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-FMA,-FMA4",
    },
    "the compiler off": {"NUMBA_DISABLE_JIT": "1"},
}


def digests() -> dict[str, str]:
    """Run all cases and return a hash of each column of their traces."""
    found: dict[str, str] = {}
    for case, values in CASES.items():
        for seed, kernel in enumerate(("compiled", "compiled", "simpy")):
            trace = simulate(scenario(**values), seed=seed, kernel=kernel).trace
            for path in trace.paths():
                data = trace[path].tobytes() if trace[path].dtype != object else b""
                found[f"{case}, {seed}, {kernel}, {path}"] = hashlib.sha256(data).hexdigest()[:16]
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return digests()


def python(name: str, *arguments: str) -> str:
    """Run Python in one of the environments; return its stdout."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "NUMBA_DISABLE_JIT")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ImportWarning", *arguments],
        env=kept | ENVIRONMENTS[name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.quick("None")
@pytest.mark.parametrize("scheduler", [None, "rpdi"])
def test_a_trace_of_another_cpu_replays(scheduler: str | None, tmp_path: Path) -> None:
    trace, shorter = tmp_path / "t.h5", ("--set", "slots=3", "--set", "radio.fading=rayleigh")
    run = "-m", "mecsim", "run", str(FOLDER / "vgg16_loaded.yaml"), "--scheduler", "greedy"
    python("numpy without AVX-512, libm without FMA", *run, *shorter, "--out", str(trace))
    if scheduler is None:
        assert replay(trace).difference is None
    else:
        replay_with(trace, scheduler)  # refused if the channels differ


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_trace_does_not_depend_on_the_cpu(name: str, here: dict[str, str]) -> None:
    code = "from tests.model.test_portability import *; print(json.dumps(digests()))"
    there = json.loads(python(name, "-c", code))
    assert [path for path in here if here[path] != there[path]] == []
