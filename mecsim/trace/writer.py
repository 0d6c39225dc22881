"""Writing traces as the run goes, beside it, in bounded memory.

The file is written under a temporary name beside its final one and takes the final name when it
is complete. Rows are compressed and written by a thread of their own, in the order in which they
were taken.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mecsim.errors import OutputError
from mecsim.model.model import Model
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.trace.output_file import OutputFile, Taken
from mecsim.trace.provenance import Provenance
from mecsim.trace.schema import Rows
from mecsim.trace.writer_thread import Background

FLUSH_SLOTS: Final = 10
FLUSH_SECONDS: Final = 0.9
"""What a flush itself takes, a tenth of a second at worst, comes on top: together below 1 s."""
FIRST_BYTES: Final = 256 << 10
BATCH_BYTES: Final = 4 << 20
"""A batch is handed over when it is so large: the first one sooner, so that the thread has work,
and each after it at twice as many bytes, at most the latter."""
WAITING: Final = 3
"""Batches that wait to be written, at most; then the simulation waits."""
LEAST_BYTES: Final = 1 << 20
"""Room on the disk without which a run does not begin."""


class TraceWriter:
    """A sink that writes a trace file. Use it as a context manager.

    Raises ``OutputError`` when the file cannot be written: where it is opened, from a later
    :meth:`append`, or at the end. If the run ends early, what was taken stays in the temporary
    file, marked as incomplete; :attr:`partial` is its path. ``size_factors`` is their number a
    task: 1, or M. Arrays that were taken must not be changed afterwards.
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
        self._taken: deque[Taken] = deque()
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
        self._background = Background(WAITING)

    def append(self, group: str, rows: Rows) -> None:
        """Take further rows of some columns of a group; flush when it is time."""
        self._background.check()
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

    def _hand_over(self, *, flush: bool) -> None:
        batch, self._batch, self._bytes = self._batch, 0, 0
        self._background.do(lambda: self._write(batch, flush=flush))

    def _write(self, batch: int, *, flush: bool) -> None:
        """Write the first rows that were taken: so many appends of them."""
        with _writing(self.path):
            self._output.take([self._taken.popleft() for _ in range(batch)])
            if flush:
                self._output.flush()

    def __enter__(self) -> Self:
        """Return the writer."""
        self._background.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Complete the file, or keep what there is of it under its temporary name."""
        self._interrupted = kind is not None
        self._background.end(self._finish)
        try:
            self._wait()
        except OutputError:
            if kind is None:
                raise
        if kind is None:
            with _writing(self.path):
                self.partial.replace(self.path)

    def _wait(self) -> None:
        """Wait until the file is closed, also under Ctrl-C: it is soon. Then raise that."""
        try:
            self._background.join()
        except KeyboardInterrupt:
            self._interrupted = True
            self._wait()
            raise

    def _finish(self) -> None:
        """Write what is left and close the file; the last job."""
        output = self._output
        try:
            if not self._background.failed:
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
    """Raise ``OSError`` if there is no room to begin: HDF5 itself crashes where it cannot begin."""
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
