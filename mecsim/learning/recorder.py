"""Records a training: learning curve, event files, checkpoints."""

from __future__ import annotations

import glob
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from mecsim.learning.checkpoint import (
    CheckpointRecord,
    SavedTraining,
    TrainingIdentity,
    write_checkpoint,
)
from mecsim.learning.interface import Checkpoint
from mecsim.learning.learning_curve import MEASURES, write_curve
from mecsim.learning.policy_file import SUFFIX, Arrays
from mecsim.learning.tensorboard import EventFile
from mecsim.support.files import as_output_error, remove_unfinished
from mecsim.support.signals import between_steps

_log = logging.getLogger(__name__)

CHECKPOINT_SECONDS: Final = 2.0
"""Least wall time between two checkpoints."""

Progress: TypeAlias = Callable[[float, float, str], None]
"""Called with the episodes done, all episodes, and the latest measures as text; of a resumed
training first with the episodes of the earlier attempt."""


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a training, all named after its policy."""

    policy: Path

    @property
    def curve(self) -> Path:
        """The learning curve, HDF5."""
        return self.policy.with_name(f"{self.stem}.curve.h5")

    @property
    def events(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.policy.with_name(f"{self.stem}.tensorboard")

    @property
    def checkpoint(self) -> Path:
        """The checkpoint; that of a complete training is kept, so that it can be prolonged."""
        return self.policy.with_name(f"{self.stem}.checkpoint{SUFFIX}")

    @property
    def stem(self) -> str:
        """The beginning of all names."""
        return self.policy.name.removesuffix(SUFFIX)


class _Pending(NamedTuple):
    """A checkpoint that is not written yet."""

    arrays: Arrays
    state: dict[str, Any]


class TrainingRecorder:
    """Writes the files of a training as it runs.

    Implements :class:`mecsim.learning.TrainingLogger`.

    Args:
        files: The files to write.
        identity: The properties of the training.
        saved: The training to continue; None to begin one.
        progress: Called after each step of the training.

    Raises:
        OutputError: If a file cannot be written.
    """

    def __init__(
        self,
        files: TrainingFiles,
        identity: TrainingIdentity,
        saved: SavedTraining | None,
        *,
        progress: Progress | None,
    ) -> None:
        self._files, self._identity, self._episodes = files, identity, identity.episodes
        self._progress, self._latest = progress, dict[str, float]()
        self._rows = [] if saved is None else list(saved.record.rows)
        self._earlier_s = 0.0 if saved is None else saved.record.wall_s
        self._pending: _Pending | None = None
        self._checkpoint = saved and Checkpoint(saved.arrays, saved.record.state)
        self._kept_rows = len(self._rows)  # those of the latest checkpoint
        with as_output_error(files.policy.parent):
            files.policy.parent.mkdir(parents=True, exist_ok=True)
            if self._checkpoint is None and files.events.is_dir():
                shutil.rmtree(files.events)
        remove_unfinished(files.policy.parent, f"{glob.escape(files.stem)}.*")
        self._events = EventFile(files.events)
        self._began = self._saved = time.monotonic()
        if progress is not None and self._rows:
            progress(self._rows[-1]["episode"], self._episodes, "")  # rates count from here

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint of an interrupted attempt."""
        return self._checkpoint

    @property
    def wall_s(self) -> float:
        """Wall time of this training, earlier attempts included."""
        return self._earlier_s + time.monotonic() - self._began

    def log(self, share: float, measures: Mapping[str, float]) -> None:
        """Add a row to the learning curve and the event file, and report progress.

        Ctrl-C is deferred to the end: in the writer of event files it would leave a lock behind.
        """
        with between_steps() as check:
            self._log(share, measures)
            check()

    def _log(self, share: float, measures: Mapping[str, float]) -> None:
        known = {
            name: float(value)
            for name, value in measures.items()
            if name in MEASURES and math.isfinite(value)  # some iterations update nothing
        }
        episode = share * self._episodes
        self._rows.append({"share": share, "episode": episode, "wall_s": self.wall_s} | known)
        self._latest |= known
        self._events.add(known, round(episode), self.wall_s)
        if self._progress is not None:
            self._progress(episode, self._episodes, _brief(self._latest))

    @property
    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is :data:`CHECKPOINT_SECONDS` old."""
        return time.monotonic() - self._saved >= CHECKPOINT_SECONDS

    def save_checkpoint(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Keep a checkpoint; write it if the last one is :data:`CHECKPOINT_SECONDS` old."""
        copies = {name: x.copy() for name, x in arrays.items()}
        self._pending, self._kept_rows = _Pending(copies, dict(state)), len(self._rows)
        if self.checkpoint_due:
            self._write()

    def warn(self, message: str) -> None:
        """Warn the user."""
        _log.warning("%s", message)

    def interrupted(self) -> str:
        """Write the latest checkpoint and return a message that says what was saved."""
        if self._pending is None and self._checkpoint is None:
            return "stopped; no checkpoint was saved yet"
        self._write()
        del self._rows[self._kept_rows :]  # later rows are computed again
        done = self._rows[-1]["episode"] if self._rows else 0.0
        saved = f"{done:.0f} of {self._episodes} episodes are saved in {self._files.checkpoint}"
        return f"stopped; {saved}. Try: the same command with --resume"

    def evaluations(self) -> list[dict[str, float]]:
        """Return the episode and the reward of every evaluation."""
        found = [row for row in self._rows if "validation_reward" in row]
        return [{"episode": r["episode"], "reward": r["validation_reward"]} for r in found]

    def close(self) -> None:
        """Write the learning curve and close the event file."""
        self._events.close()
        self._write_curve()

    def complete(self) -> None:
        """Keep the last checkpoint, from which the training can be prolonged, if there is one."""
        if self._pending is None and self._checkpoint is not None:
            self._pending = _Pending(*self._checkpoint)
        if self._pending is None:
            self._files.checkpoint.unlink(missing_ok=True)  # of a training before this one
        self._write(complete=True)

    def _write(self, *, complete: bool = False) -> None:
        if self._pending is None:
            return
        record = CheckpointRecord(
            identity=self._identity,
            state=self._pending.state,
            wall_s=self.wall_s,
            rows=self._rows[: self._kept_rows],
            complete=complete,
        )
        write_checkpoint(self._files.checkpoint, record, self._pending.arrays)
        self._write_curve()
        self._saved = time.monotonic()

    def _write_curve(self) -> None:
        if self._rows:
            write_curve(self._files.curve, self._rows, self._identity.model_dump())


def _brief(measures: Mapping[str, float]) -> str:
    """Return the latest measures in a few words."""
    names = {"validation_reward": "reward", "entropy": "entropy"}
    return ", ".join(
        f"{short} {np.format_float_positional(measures[name], 3)}"
        for name, short in names.items()
        if name in measures
    )
