"""`make bench`: speed of the compiled kernel as a ratio to the leanest SimPy program.

Nothing is asserted about time: machines are shared and noisy. The table goes to results/.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mecsim import experiment, workload
from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled import CompiledKernel
from mecsim.model import Model, resolve
from mecsim.routing import Hops, Router
from mecsim.scenario import load
from tests.benchmarks import lean_simpy
from tests.benchmarks.test_simpy_kernel import ROOT, ROUNDS, SCENARIO, ratio_table, seconds

PLACEMENT = [1, 1, 2, 2, 3, 4]

pytestmark = pytest.mark.benchmark


def hop_tables(model: Model) -> list[tuple[float, Hops]]:
    """The start of every slot and its hops under the placement."""
    router, placement = Router(model), np.array(PLACEMENT)
    return [
        (slot.start_s, router.hops(slot.tasks, placement, slot.rate_bps))
        for slot in workload.slots(model)
    ]


def routes(hops: Hops) -> list[lean_simpy.Route]:
    resource, service = hops.resource.tolist(), hops.service_s.tolist()
    return [(resource[i:j], service[i:j]) for i, j in pairwise(hops.offset.tolist())]


def serve(kernel: Kernel, tables: list[tuple[float, Hops]]) -> None:
    """Nothing but the kernel, slot by slot."""
    for start_s, hops in tables:
        kernel.advance(start_s)
        kernel.collect()
        kernel.submit(hops)
    kernel.drain()
    kernel.collect()


def test_compiled_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, trace, options = load(SCENARIO), tmp_path / "trace.h5", {"placement": PLACEMENT}
    model = resolve(scenario)
    tables = hop_tables(model)
    slots = [(start_s, routes(hops)) for start_s, hops in tables]
    count = sum(len(hops.resource) for _, hops in tables)

    def run(out: Path | None = None) -> None:
        experiment.run(scenario, "fixed", options, kernel="compiled", out=out)

    works: dict[str, Callable[[], object]] = {
        "leanest SimPy program": lambda: lean_simpy.serve(slots, len(model.resources)),
        "compiled kernel alone": lambda: serve(CompiledKernel(model), tables),
        "mecsim, no trace": run,
        "mecsim, trace written": lambda: run(trace),
    }
    works["mecsim, trace written"]()  # compiles, or loads what is compiled
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    timed = (
        f"Python {platform.python_version()}; medians of {ROUNDS} rounds, each program in turn in "
        "one process. The kernel alone is given hop tables, slot by slot; else the whole of "
        "`experiment.run` is timed, resolving and summary included."
    )
    lines = [
        f"# Compiled kernel on vgg16_4es under fixed {PLACEMENT}: {count:,} hops",
        "",
        timed,
        "",
        *ratio_table(rounds, count),
    ]
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks_compiled.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
