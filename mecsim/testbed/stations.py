"""Stations: queues in order of arrival whose workers compute or transfer.

All times are readings of the monotonic clock, all durations real seconds.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mecsim.support.text import error_line
from mecsim.testbed.clock import ordinary, wait_until


class LostError(Exception):
    """A service failed and its task is lost. The message gives the reason."""


@dataclass(eq=False, slots=True)
class Job:
    """A task at a station."""

    task: int
    hop: int
    """Index of the hop among those of the task."""
    service_s: float
    """Expected duration of the service."""
    drop_at: float
    """The job is dropped if its service does not begin by then."""
    content: Any
    """The task's tensors; the service replaces them."""
    joined_at: float
    """When the job arrived: at the end of the hop before, or at its release."""
    begun_at: float = math.nan
    """When a worker took it; after the start of its service, by the overhead of the node."""


class Served(NamedTuple):
    """The end of a service."""

    free_at: float
    """When the next service begins if its job waits: what was planned, without the lateness of
    timers, so that lateness does not add up over a busy period."""
    finish_at: float
    """The end that was observed."""
    reported_at: float
    """The same on the clock of the node where the hop ends."""


Serve = Callable[[Job, float], Served]
"""Serves a job from a start on, which may have passed; raises `LostError`."""


class Listener(Protocol):
    """Learns what becomes of jobs; called by the threads of stations."""

    def finished(self, job: Job, start_at: float, served: Served) -> None:
        """Take a job whose service has ended."""
        ...

    def dropped(self, job: Job, at: float) -> None:
        """Take a job that was dropped."""
        ...

    def lost(self, job: Job, at: float, reason: str) -> None:
        """Take a job whose service failed."""
        ...


class Station:
    """A queue with c workers, each of which is a thread. First come, first served.

    A service starts when its job arrives, or when the job before it on its worker finishes: there
    are no gaps. The node's overhead in between (threads that wake up, reports) is part of the
    service; padding and pacing absorb it.
    """

    def __init__(
        self,
        name: str,
        workers: int,
        serve: Serve,
        listener: Listener,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Make a station whose threads start with the first job, or with `start`.

        Args:
            name: Name of the threads.
            workers: c.
            serve: Serves a job.
            listener: Learns what becomes of jobs.
            prepare: Called first by every worker.
        """
        self._serve, self._listener, self._prepare = serve, listener, prepare
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ends = [-math.inf] * workers  # expected end of the service of each worker
        self._closed = self._started = False
        self._prepared = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name=f"{name} {n}", daemon=True)
            for n in range(workers)
        ]

    def start(self) -> None:
        """Start the workers and wait until they are prepared."""
        self._launch()
        for _ in self._threads:
            self._prepared.acquire()

    def _launch(self) -> None:
        with self._changed:
            started, self._started = self._started, True
        if not started:
            for thread in self._threads:
                thread.start()

    def join(self, job: Job) -> None:
        """Put a job at the end of the queue."""
        if not self._started:
            self._launch()
        with self._changed:
            self._queue.append(job)
            self._changed.notify()

    def expire(self, job: Job) -> None:
        """Drop a job if it still waits although its time is over."""
        with self._changed:
            if job not in self._queue:
                return
            self._queue.remove(job)
        self._listener.dropped(job, time.monotonic())

    def close(self) -> None:
        """Start no further service."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def state(self, now: float) -> tuple[float, int]:
        """Return the expected wait of a job that joined now, and the number of jobs.

        The wait follows from list scheduling of the expected services: the job at the head takes
        the worker that is free first. Jobs that will be dropped do not count.

        Args:
            now: The time.
        """
        with self._changed:
            ends, waiting = list(self._ends), list(self._queue)
        jobs = sum(end > -math.inf for end in ends)
        free = [max(now, end) for end in ends]
        heapq.heapify(free)
        for job in waiting:
            if free[0] <= job.drop_at:
                heapq.heapreplace(free, free[0] + job.service_s)
                jobs += 1
        return free[0] - now, jobs

    def _work(self, worker: int) -> None:
        if self._prepare is not None:
            with ordinary():
                self._prepare()
        self._prepared.release()
        served = Served(*[-math.inf] * 3)
        while (turn := self._next(worker, served)) is not None:
            job, planned_at, start_at = turn
            if start_at > job.drop_at:
                self._listener.dropped(job, time.monotonic())
                continue
            try:
                served = self._serve(job, planned_at)
            except LostError as error:
                served = self._failed(worker, job, str(error))
            except Exception as error:  # noqa: BLE001 - the blocks are the user's code
                served = self._failed(worker, job, error_line(error))
            else:
                self._idle(worker)
                self._listener.finished(job, start_at, served)

    def _next(self, worker: int, served: Served) -> tuple[Job, float, float] | None:
        """Wait for a job; return it, its planned start and its observed start."""
        with self._changed:
            while not (self._queue or self._closed):
                self._changed.wait()
            if self._closed:
                return None
            job = self._queue.popleft()
            job.begun_at = time.monotonic()
            planned_at = max(served.free_at, job.joined_at)
            start_at = max(served.finish_at, job.joined_at)
            if start_at <= job.drop_at:
                self._ends[worker] = planned_at + job.service_s
            return job, planned_at, start_at

    def _idle(self, worker: int) -> None:
        with self._changed:
            self._ends[worker] = -math.inf

    def _failed(self, worker: int, job: Job, reason: str) -> Served:
        now = time.monotonic()
        self._idle(worker)
        self._listener.lost(job, now, reason)
        return Served(now, now, now)


def computing(compute: Callable[[Job], Any], padded: bool) -> Serve:
    """Return a service that computes.

    Args:
        compute: Returns the new content of a job.
        padded: Let the service end at its start plus the expected duration. Where the computing
            takes longer, it ends with the computing.
    """

    def serve(job: Job, start_at: float) -> Served:
        with ordinary():
            job.content = compute(job)
        end_at, planned_at = time.monotonic(), start_at + job.service_s
        if padded and wait_until(planned_at):
            end_at = time.monotonic()
            return Served(planned_at, end_at, end_at)
        return Served(end_at, end_at, end_at)

    return serve
