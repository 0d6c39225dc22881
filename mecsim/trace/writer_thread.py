"""A thread that runs jobs in parallel with the simulation."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import TypeAlias

Job: TypeAlias = Callable[[], None]


class WriterThread:
    """Runs jobs one by one, in the order of submission; at most ``most`` wait.

    The exception of a job is raised again by the next :meth:`do`, or by :meth:`join`; later jobs
    are dropped. Ctrl-C reaches the main thread only, so it interrupts no job. The thread is a
    daemon, for a program that ends without :meth:`end`.
    """

    def __init__(self, most: int) -> None:
        # Tokens in SimpleQueues, whose methods an exception cannot leave half done.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._room.put(None)
        self._last: Job | None = None
        self._error: BaseException | None = None
        self._ended = Event()
        self._thread = Thread(target=self._work, name="mecsim-trace", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether a job has raised an exception."""
        return self._error is not None

    def check(self) -> None:
        """Raise the exception of a job again."""
        if self._error is not None:
            raise self._error

    def do(self, job: Job) -> None:
        """Submit a job; block while too many are waiting."""
        self.check()
        self._room.get()
        self._jobs.put(job)

    def end(self, last: Job) -> None:
        """Submit the last job, which runs even if an earlier one has failed."""
        self._last = last
        self._jobs.put(None)

    def join(self) -> None:
        """Wait for the last job."""
        self._ended.wait()  # unlike Thread.join (bpo-45274) it may be interrupted and called again
        self._thread.join()
        self.check()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is None:
                self._attempt(job)
            self._room.put(None)
        if self._last is not None:
            self._attempt(self._last)
        self._ended.set()

    def _attempt(self, job: Job) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the other thread
            self._error = self._error or error
