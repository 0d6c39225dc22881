"""Write a trace while the run advances, in bounded memory.

The file has a temporary name, next to the final one, until it is complete. A thread compresses
and writes the rows in the order in which they were appended.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mecsim.errors import OutputError
from mecsim.model.model import Model
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.trace.output_file import GroupRows, OutputFile
from mecsim.trace.provenance import Provenance
from mecsim.trace.schema import Rows
from mecsim.trace.writer_thread import WriterThread

FLUSH_SLOTS: Final = 10
FLUSH_SECONDS: Final = 0.9
"""A killed run loses at most the rows since the last flush: 10 slots or 1 s, whichever is later. A
flush itself takes up to 0.1 s."""
FIRST_BYTES: Final = 256 << 10
BATCH_BYTES: Final = 4 << 20
"""Size of the first batch that goes to the thread, and of the largest. The size doubles from batch
to batch, so that the thread starts early."""
WAITING: Final = 3
"""Maximum number of batches that wait to be written; then the simulation waits."""
LEAST_BYTES: Final = 1 << 20
"""Free space on the disk that a run needs to begin."""


class TraceWriter:
    """A sink that writes a trace file; use it as a context manager.

    If the run ends early, all appended rows stay in the temporary file :attr:`partial`, which is
    marked as incomplete.

    Args:
        path: The final file; missing folders are made.
        model: The resolved scenario.
        spec: What the scheduler knows of it; gives the features of the observations.
        made_by: Scheduler, options, seed, kernel, and testbed where times are measured.
        size_factors: Size factors per task: 1, or M if they are drawn per block.

    Raises:
        OutputError: The file cannot be written; from the constructor, :meth:`append`, or the end
            of the ``with`` block.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        spec: SchedulerSpec,
        made_by: Provenance,
        *,
        size_factors: int = 1,
    ) -> None:
        self.path = path
        self._taken: deque[GroupRows] = deque()
        self._batch = self._bytes = self._slots = 0
        self._enough = min(FIRST_BYTES, BATCH_BYTES)
        self._flushed = time.monotonic()
        self._interrupted = False
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name too long
            raise OutputError(f"{path}: cannot be written: it is a folder")
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _probe(path.parent, LEAST_BYTES + 64 * len(model.resources))
            self._output = OutputFile(path, model, spec, made_by, size_factors)
        self.partial = self._output.partial
        self._thread = WriterThread(WAITING)

    def append(self, group: str, rows: Rows) -> None:
        """Append rows of some columns of a group; flush when due.

        Args:
            group: A key of ``COLUMNS``.
            rows: Arrays by column name. They must not be changed afterwards.

        Raises:
            OutputError: An earlier write failed.
        """
        self._thread.check()
        self._taken.append((group, rows))
        self._batch += 1
        self._bytes += sum(values.nbytes for values in rows.values())
        if group == "slots":
            self._slots += len(rows["time_s"])
        late = time.monotonic() - self._flushed >= FLUSH_SECONDS
        if late and self._slots >= FLUSH_SLOTS and group == "slots":
            self._slots, self._flushed = 0, time.monotonic()
            self._hand_over(flush=True)
        elif self._bytes >= self._enough:
            self._enough = min(2 * self._enough, BATCH_BYTES)
            self._hand_over(flush=False)

    def describe_testbed(self, facts: Mapping[str, Any]) -> None:
        """Replace the facts about the testbed, which ``made_by`` must have given.

        Raises:
            OutputError: An earlier write failed.
        """
        self._thread.do(lambda: self._output.describe_testbed(facts))

    def _hand_over(self, *, flush: bool) -> None:
        batch, self._batch, self._bytes = self._batch, 0, 0
        self._thread.do(lambda: self._write(batch, flush=flush))

    def _write(self, batch: int, *, flush: bool) -> None:
        """Write the rows of the first ``batch`` appends."""
        with _writing(self.path):
            self._output.take([self._taken.popleft() for _ in range(batch)])
            if flush:
                self._output.flush()

    def __enter__(self) -> Self:
        """Return the writer."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Complete the file; keep it under its temporary name if the run ended early."""
        self._interrupted = kind is not None
        self._thread.end(self._finish)
        try:
            self._wait()
        except OutputError:
            if kind is None:
                raise
        if kind is None:
            with _writing(self.path):
                self.partial.replace(self.path)

    def _wait(self) -> None:
        """Wait until the file is closed, also after Ctrl-C, which is raised again then."""
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._interrupted = True
            self._wait()
            raise

    def _finish(self) -> None:
        """Write the remaining rows and close the file; the last job of the thread."""
        output = self._output
        try:
            if not self._thread.failed:
                self._write(len(self._taken), flush=True)
                with _writing(self.path):
                    if not self._interrupted:
                        output.mark_complete()
                    output.close()
        finally:
            output.abandon()
            if self._interrupted and not output.decided:
                self.partial.unlink(missing_ok=True)


def _probe(folder: Path, size: int) -> None:
    """Raise ``OSError`` if the disk is full: HDF5 crashes if its first write fails."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        raise OutputError(f"{path}: cannot be written: {reason}") from error
