"""What a batch asks of an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from mecsim.study.jobs import Job, Outcome


class ExecutorLostError(Exception):
    """What a future raises if the process that computed its job has died."""


class Executor(ABC):
    """Computes jobs beside each other; a context manager that ends what it started.

    Jobs and outcomes are plain values: an engine needs no common file system.
    """

    slots: int
    """Jobs that can be computed at the same time."""

    @abstractmethod
    def submit(self, job: Job, policy: bytes | None) -> Future[Outcome]:
        """Start a job, given the policy that it needs."""

    def lost(self, error: BaseException) -> bool:
        """Whether an error of a future means that its process has died, not that its job failed."""
        return isinstance(error, ExecutorLostError)

    @abstractmethod
    def close(self) -> None:
        """Stop at once; what is still running is given up."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
