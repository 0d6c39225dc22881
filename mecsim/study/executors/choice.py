"""Engines by name."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from mecsim.errors import InputError
from mecsim.study.executors.base import Executor
from mecsim.study.executors.local import LocalExecutor

EXECUTORS: Final = ("local", "ray")


def check_executor(name: str, address: str = "") -> None:
    """Raise ``InputError`` for an unknown engine, or an address of one that has none."""
    if name not in EXECUTORS:
        raise InputError(f"--engine: {name!r} is not known; allowed: {', '.join(EXECUTORS)}")
    if address and name != "ray":
        raise InputError(f"--ray-address: {address}: allowed: with --engine ray only")


def make_executor(name: str, jobs: int | None = None, address: str = "") -> Executor:
    """Return an engine with room for so many jobs at a time (as many as there are cores).

    ``address`` is that of a Ray cluster. Raises ``InputError`` for an unknown name, no jobs, or a
    cluster that does not answer.
    """
    check_executor(name, address)
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: {jobs}: allowed: 1 or more")
    if name == "ray":
        from mecsim.study.executors.ray_executor import RayExecutor  # noqa: PLC0415 - Ray is optional

        return RayExecutor(address, jobs)
    return LocalExecutor(jobs or len(os.sched_getaffinity(0)))


def cluster_for(name: str, workers: int, address: str = "") -> AbstractContextManager[Any]:
    """Return what a training with so many workers needs around it. Raises as `make_executor`."""
    check_executor(name, address)
    if name == "ray":
        from mecsim.study.executors.ray_executor import Cluster  # noqa: PLC0415 - Ray is optional

        return Cluster(address, workers)
    return nullcontext()
