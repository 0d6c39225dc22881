"""Record a training: learning curve, event files, checkpoints."""

from __future__ import annotations

import glob
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from mecsim.errors import InputError
from mecsim.learning.interface import Checkpoint
from mecsim.learning.learning_curve import MEASURES, write_curve
from mecsim.learning.policy_file import SUFFIX, read_tensors, write_tensors
from mecsim.learning.tensorboard import EventFile
from mecsim.support.files import as_output_error, remove_unfinished

_log = logging.getLogger(__name__)

KEEP_SECONDS: Final = 2.0
"""Wall time between checkpoints, at least."""


_KEY: Final = "mecsim-checkpoint"


Progress: TypeAlias = Callable[[float, float, str], None]
"""Told the episodes done, all episodes, and what was measured last."""


@dataclass(frozen=True)
class Files:
    """What a training writes, all named after the policy."""

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
        """What ``resume`` goes on from; gone when training is complete."""
        return self.policy.with_name(f"{self.stem}.checkpoint{SUFFIX}")

    @property
    def stem(self) -> str:
        """What all names begin with."""
        return self.policy.name.removesuffix(SUFFIX)


class Records:
    """What a training tells, written as it goes: see :class:`mecsim.learning.interface.Diary`."""

    def __init__(
        self,
        files: Files,
        identity: Mapping[str, Any],
        episodes: int,
        *,
        resume: bool,
        progress: Progress | None,
    ) -> None:
        self._files, self._identity, self._episodes = files, dict(identity), episodes
        self._progress, self._latest = progress, dict[str, float]()
        self._rows: list[dict[str, float]] = []
        self._before_s = 0.0
        self._pending: tuple[dict[str, Any], dict[str, Any], int] | None = None
        self._checkpoint = self._read(resume=resume)
        with as_output_error(files.policy.parent):
            files.policy.parent.mkdir(parents=True, exist_ok=True)
            if self._checkpoint is None and files.events.is_dir():
                shutil.rmtree(files.events)
        remove_unfinished(files.policy.parent, f"{glob.escape(files.stem)}.*")
        self._events = EventFile(files.events)
        self._began = self._kept = time.monotonic()

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where an earlier attempt stopped."""
        return self._checkpoint

    @property
    def wall_s(self) -> float:
        """Wall time of this training, earlier attempts included."""
        return self._before_s + time.monotonic() - self._began

    def note(self, share: float, measures: Mapping[str, float]) -> None:
        """Add a row to the learning curve, and tell it."""
        told = {
            name: float(value)
            for name, value in measures.items()
            if name in MEASURES and math.isfinite(value)  # nothing was learned in some rounds
        }
        episode = share * self._episodes
        self._rows.append({"share": share, "episode": episode, "wall_s": self.wall_s} | told)
        self._latest |= told
        self._events.add(told, round(episode), self.wall_s)
        if self._progress is not None:
            self._progress(episode, self._episodes, _brief(self._latest))

    def keep(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Write a checkpoint if the last one is some time ago."""
        copies = {name: x.copy() for name, x in arrays.items()}
        self._pending = copies, dict(state), len(self._rows)
        if time.monotonic() - self._kept >= KEEP_SECONDS:
            self._write()

    def warn(self, message: str) -> None:
        """Tell the user."""
        _log.warning("%s", message)

    def interrupted(self) -> str:
        """Write what there is; return what was kept."""
        if self._pending is None and self._checkpoint is None:
            return "stopped; nothing was learned yet"
        if self._pending is not None:
            del self._rows[self._pending[2] :]  # what was noted since is done again
        self._write()
        done = self._rows[-1]["episode"] if self._rows else 0.0
        kept = f"{done:.0f} of {self._episodes} episodes are kept in {self._files.checkpoint}"
        return f"stopped; {kept}; the same command with --resume goes on"

    def curve(self) -> list[dict[str, float]]:
        """Return the evaluations: episode and reward."""
        found = [row for row in self._rows if "validation_reward" in row]
        return [{"episode": r["episode"], "reward": r["validation_reward"]} for r in found]

    def close(self) -> None:
        """Write the learning curve and let the files go."""
        self._events.close()
        if self._rows:
            write_curve(self._files.curve, self._rows, self._identity)

    def _write(self) -> None:
        if self._pending is None:
            return
        arrays, state, _ = self._pending
        document = {
            "identity": self._identity,
            "state": state | {"wall_s": self.wall_s},
            "rows": self._rows,
        }
        write_tensors(self._files.checkpoint, {_KEY: json.dumps(document)}, arrays)
        write_curve(self._files.curve, self._rows, self._identity)
        self._kept = time.monotonic()

    def _read(self, *, resume: bool) -> Checkpoint | None:
        path = self._files.checkpoint
        if not path.exists():
            return None
        if not resume:
            raise InputError(
                f"{path}: is of a training that was stopped; --resume goes on with it; "
                "to begin anew, delete it or choose another --out"
            )
        metadata, arrays = read_tensors(path)
        try:
            document = json.loads(metadata[_KEY])
            identity, state = document["identity"], document["state"]
            rows = [{str(k): float(v) for k, v in row.items()} for row in document["rows"]]
            self._before_s = float(state["wall_s"])
            was, now = _flat(identity), _flat(json.loads(json.dumps(self._identity)))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: is no checkpoint of mecsim ({error!r})") from error
        for key, value in now.items():
            if was.get(key) != value:
                changed = f"{key} was {was.get(key)}, now {value}"
                raise InputError(f"{path}: is of another training: {changed}")
        self._rows = rows
        return Checkpoint(arrays, state)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """Return what a training is, its settings one by one."""
    return {k: v for k, v in identity.items() if k != "settings"} | identity["settings"]


def _brief(measures: Mapping[str, float]) -> str:
    """Return the latest measures in a few words."""
    names = {"validation_reward": "reward", "entropy": "entropy"}
    known = {short: measures[name] for name, short in names.items() if name in measures}
    finite = {short: value for short, value in known.items() if math.isfinite(value)}
    return ", ".join(
        f"{short} {np.format_float_positional(value, 3)}" for short, value in finite.items()
    )
