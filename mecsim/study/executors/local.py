"""Jobs in processes of this machine, started by loky (a part of joblib)."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from mecsim.study.executors.base import Executor
from mecsim.study.jobs import Job, Outcome, execute
from mecsim.support import streams

ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""Each job has a process, so more threads would only compete; and the number of threads must not
change the order of sums."""
_TAKEN_S: Final = 1.0
"""Maximum wait for loky to take a submitted job."""


class LocalExecutor(Executor):
    """Jobs in processes of this machine, which end with the process that started them."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._pool: ProcessPoolExecutor | None = None
        self._last: Future[list[Outcome]] | None = None

    def submit(self, jobs: Sequence[Job], policy: bytes | None) -> Future[list[Outcome]]:
        """Start jobs in a process; new processes replace those that died."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.slots, env=ONE_THREAD, initializer=_prepare, initargs=(os.getpid(),)
            )
        self._last = self._pool.submit(execute, jobs, policy)
        return self._last

    def lost(self, error: BaseException) -> bool:
        """Whether an error means that a process died; then the others are stopped, too."""
        died = isinstance(error, TerminatedWorkerError)
        if died:
            self.close()
        return died

    def close(self) -> None:
        """Kill the processes."""
        if self._pool is not None:
            try:
                self._wait_until_taken()
            finally:
                self._pool.shutdown(wait=True, kill_workers=True)
                self._pool = self._last = None

    def _wait_until_taken(self) -> None:
        """Wait until loky's thread has taken the last job, since it fails on one that is gone."""
        end = time.monotonic() + _TAKEN_S
        while self._last is not None and time.monotonic() < end:
            if self._last.running() or self._last.done():
                return
            time.sleep(0.001)


def _prepare(parent: int) -> None:
    """Make this process ignore Ctrl-C and end with the process that started it.

    A job may start processes itself, as a training with several workers does.
    """
    os.setpgid(0, 0)
    streams.protect()
    multiprocessing.set_start_method("spawn", force=True)  # loky's is unknown to its children
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
