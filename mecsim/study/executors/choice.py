"""Executors by name."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from mecsim.errors import InputError
from mecsim.study.executors.base import Executor
from mecsim.study.executors.local import LocalExecutor

EXECUTORS: Final = ("local", "ray")


@dataclass(frozen=True)
class ExecutorChoice:
    """An executor as a user chooses it."""

    name: str = "local"
    """One of :data:`EXECUTORS`."""
    jobs: int | None = None
    """Jobs in parallel; None for the number of cores."""
    address: str = ""
    """``HOST:PORT`` of a Ray cluster; empty for ``$RAY_ADDRESS`` or a cluster on this machine."""

    def make(self) -> Executor:
        """Return a new executor. Raises ``InputError``, see :func:`make_executor`."""
        return make_executor(self.name, self.jobs, self.address)


def check_executor(name: str, address: str = "") -> None:
    """Raise ``InputError`` for an unknown executor, or an address for one other than Ray."""
    if name not in EXECUTORS:
        raise InputError(f"--engine: {name!r} is unknown; expected one of {', '.join(EXECUTORS)}")
    if address and name != "ray":
        raise InputError(f"--ray-address: {address}: only valid with --engine ray")


def make_executor(name: str, jobs: int | None = None, address: str = "") -> Executor:
    """Return an executor.

    Args:
        name: One of :data:`EXECUTORS`.
        jobs: Jobs in parallel; None for the number of cores.
        address: ``HOST:PORT`` of a Ray cluster.

    Raises:
        InputError: The name is unknown, ``jobs`` is less than 1, or the cluster does not answer.
    """
    check_executor(name, address)
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: {jobs}; expected 1 or more")
    if name == "ray":
        from mecsim.study.executors.ray_executor import (  # noqa: PLC0415 - Ray is optional
            RayExecutor,
        )

        return RayExecutor(address, jobs)
    return LocalExecutor(jobs or len(os.sched_getaffinity(0)))


def cluster_for(name: str, workers: int, address: str = "") -> AbstractContextManager[Any]:
    """Return the context in which a training with ``workers`` processes runs.

    Raises:
        InputError: See :func:`make_executor`.
    """
    check_executor(name, address)
    if name == "ray":
        from mecsim.study.executors.ray_executor import Cluster  # noqa: PLC0415 - Ray is optional

        return Cluster(address, workers)
    return nullcontext()
