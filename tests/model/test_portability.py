"""A trace has the same bits with every instruction set, C library kernel and compiler setting."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.golden.goldens import dispatched
from tests.helpers.builders import chain, scenario, simulate

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
        for seed in range(3):
            trace = simulate(scenario(**values), seed=seed, kernel="compiled").trace
            for path in trace.paths():
                data = trace[path].tobytes() if trace[path].dtype != object else b""
                found[f"{case}, {seed}, {path}"] = hashlib.sha256(data).hexdigest()[:16]
    return found


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    return digests()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_trace_does_not_depend_on_the_cpu(name: str, here: dict[str, str]) -> None:
    code = "from tests.model.test_portability import *; print(json.dumps(digests()))"
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "NUMBA_DISABLE_JIT")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ImportWarning", "-c", code],
        env=kept | ENVIRONMENTS[name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert [path for path in here if here[path] != there[path]] == []
