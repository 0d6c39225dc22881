"""Learning curves in HDF5, one row per measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from mecsim.errors import InputError
from mecsim.support.arrays import Floats
from mecsim.support.files import replacing

MEASURES: Final[Mapping[str, tuple[str, str]]] = {
    "share": ("1", "share of the training that is done"),
    "episode": ("1", "simulated epochs so far, in runs of the scenario"),
    "wall_s": ("s", "wall time since training began, without breaks"),
    "validation_reward": (
        "s",
        "mean reward of a run on validation seeds; an upper bound if far below the best",
    ),
    "training_reward": ("s", "mean reward of a run during training"),
    "entropy": ("nat", "mean entropy of the actor's output distributions"),
    "epsilon": ("1", "share of actions sampled uniformly"),
    "actor_loss": ("1", "loss of the actor"),
    "critic_loss": ("1", "loss of the critic, or of the Q-networks"),
}
"""Unit and description of each measure; NaN in the rows without it."""


def write_curve(
    path: Path, rows: Sequence[Mapping[str, float]], attributes: Mapping[str, Any]
) -> None:
    """Write a learning curve; the file takes its name when it is complete.

    Args:
        path: The file.
        rows: Measures by name, a key of ``MEASURES``, for every measurement.
        attributes: Root attributes; values other than text and integers are stored as JSON.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as (partial,), h5py.File(partial, "w", locking=False) as file:
        file.attrs.update({"format": "mecsim-curve", "format_version": 1})
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, str | int) else json.dumps(value)
        for name, (unit, description) in MEASURES.items():
            if any(name in row for row in rows):
                column = np.array([row.get(name, np.nan) for row in rows])
                dataset = file.create_dataset(name, data=column)
                dataset.attrs.update({"units": unit, "description": description})


def read_curve(path: Path) -> dict[str, Floats]:
    """Return the columns of a learning curve by name, all of one length.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return {
                name: np.asarray(file[name][:], np.float64) for name in MEASURES if name in file
            }
    except OSError as error:
        raise InputError(f"{path}: is not a learning curve of mecsim") from error
