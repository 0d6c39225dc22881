"""Checkpoints: the training to which one belongs, and whether another command may continue it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from mecsim.errors import InputError
from mecsim.learning.policy_file import Arrays, read_tensors, write_tensors

_log = logging.getLogger(__name__)

_KEY: Final = "mecsim-checkpoint"


class _Record(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants"
    )


class TrainingIdentity(_Record):
    """The properties of a training; it continues a checkpoint with the same ones only."""

    scheduler: str
    scenario_sha256: str
    settings: dict[str, Any]
    episodes: int
    seed: int
    serial: bool
    features_sha256: str = ""
    """Hash of the custom features' source; empty without them."""
    prolonged: tuple[int, ...] = ()
    """The lengths that the training had before it was prolonged, in episodes."""

    def fixed(self) -> dict[str, Any]:
        """Return all values by name that no command may change, the settings one by one."""
        return self.model_dump(exclude={"settings", "episodes", "prolonged"}) | self.settings


class CheckpointRecord(_Record):
    """The header of a checkpoint file."""

    identity: TrainingIdentity
    state: dict[str, Any]
    """State of the learner, see :class:`mecsim.learning.Checkpoint`."""
    wall_s: float
    rows: list[dict[str, float]]
    """The learning curve so far."""
    complete: bool = False
    """Whether the training has ended, and its policy is written."""


class SavedTraining(NamedTuple):
    """The content of a checkpoint file."""

    record: CheckpointRecord
    arrays: Arrays


def write_checkpoint(path: Path, record: CheckpointRecord, arrays: Mapping[str, Any]) -> None:
    """Write a checkpoint file, which replaces the previous one when it is complete.

    Raises ``OutputError``.
    """
    write_tensors(path, {_KEY: record.model_dump_json()}, dict(arrays))


def read_checkpoint(path: Path) -> SavedTraining:
    """Read a checkpoint file. Raises ``PolicyError``, or ``InputError`` if it is none."""
    metadata, arrays = read_tensors(path)
    try:
        return SavedTraining(CheckpointRecord.model_validate_json(metadata.get(_KEY, "")), arrays)
    except ValidationError as error:
        raise InputError(f"{path}: is not a checkpoint of mecsim. Try: delete it") from error


def find_saved(
    path: Path, policy: Path, identity: TrainingIdentity, *, resume: bool
) -> SavedTraining | None:
    """Return the training to continue, with the identity that it gets; None to begin one.

    A complete training is prolonged to the episodes of ``identity``.

    Args:
        path: The checkpoint file.
        policy: The policy file of the training.
        identity: The training that is asked for.
        resume: Whether to continue the training of the checkpoint.

    Raises:
        InputError: If the checkpoint is of another training, or ``resume`` does not fit.
    """
    if not path.exists():
        _check_absent(path, policy, resume=resume)
        return None
    saved = read_checkpoint(path)
    if resume:
        return _continued(path, policy, saved, identity)
    if not saved.record.complete:
        raise InputError(
            f"{path}: belongs to an interrupted training. Try: --resume to continue it, or "
            "delete the file or choose another --out to start over"
        )
    return None


def _check_absent(path: Path, policy: Path, *, resume: bool) -> None:
    if resume and policy.exists():
        raise InputError(
            f"{policy}: training is complete, but its checkpoint {path} is missing, so it cannot "
            "be prolonged. Try: omit --resume to train again"
        )
    if resume:
        _log.warning("--resume: there is no %s: the training starts at its beginning", path)


def _continued(
    path: Path, policy: Path, saved: SavedTraining, identity: TrainingIdentity
) -> SavedTraining:
    was = saved.record.identity
    _check_same(path, was, identity)
    prolonged = was.prolonged
    if identity.episodes != was.episodes:
        _check_longer(path, policy, saved.record, identity.episodes)
        prolonged = (*prolonged, was.episodes)
    elif saved.record.complete and policy.exists():
        raise _already_done(policy, was.episodes)
    shrunk = was.episodes / identity.episodes
    rows = [row | {"share": row["share"] * shrunk} for row in saved.record.rows]
    update = {"identity": identity.model_copy(update={"prolonged": prolonged}), "rows": rows}
    return saved._replace(record=saved.record.model_copy(update=update))


def _check_same(path: Path, was: TrainingIdentity, identity: TrainingIdentity) -> None:
    saved = was.fixed()
    for name, value in identity.fixed().items():
        if saved.get(name) != value:
            raise InputError(
                f"{path}: belongs to another training: {name} was {saved.get(name)}, is {value}. "
                "Try: the same options, or another --out"
            )


def _check_longer(path: Path, policy: Path, record: CheckpointRecord, episodes: int) -> None:
    """Raise ``InputError`` unless a complete training gets more episodes."""
    before = record.identity.episodes
    if not record.complete:
        raise InputError(
            f"{path}: belongs to an interrupted training that was to have {before} episodes. "
            f"Try: --episodes {before} to finish it; then it can be prolonged"
        )
    if episodes < before:
        raise _already_done(policy, before)


def _already_done(policy: Path, episodes: int) -> InputError:
    return InputError(
        f"{policy}: already has {episodes} episodes. Try: more --episodes to prolong it, or "
        "omit --resume to train again"
    )
