"""The interface between a batch and an executor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from mecsim.study.jobs import Job, Outcome


class ExecutorLostError(Exception):
    """Raised by a future if the process that computed its job died."""


class Executor(ABC):
    """Computes jobs in parallel; a context manager that stops the processes it started.

    Jobs and outcomes are plain values, so an executor needs no shared file system.
    """

    slots: int
    """Number of processes that can compute in parallel."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job], policy: bytes | None) -> Future[list[Outcome]]:
        """Start jobs that one process computes, see :func:`mecsim.study.jobs.execute`.

        Args:
            jobs: One job, or trainings that are one stack.
            policy: The policy file of the training that the job needs.

        Returns:
            A future of the outcomes; its error means that the process died, see :meth:`lost`.
        """

    def lost(self, error: BaseException) -> bool:
        """Whether the error of a future means that its process died, not that its job failed."""
        return isinstance(error, ExecutorLostError)

    @abstractmethod
    def close(self) -> None:
        """Stop at once and abandon the running jobs."""

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
