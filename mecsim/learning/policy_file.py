"""Trained policies: safetensors files with a JSON header. Reading one executes nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mecsim.errors import PolicyError
from mecsim.scheduler.custom_features import FeatureSource
from mecsim.support.files import write_whole

Arrays = dict[str, NDArray[np.float32]]
"""Arrays by name."""

SUFFIX: Final = ".safetensors"
_KEY: Final = "mecsim"
_MAX_BYTES: Final = 1 << 30


class PolicyHeader(BaseModel):
    """The header of a policy file: what the policy is for, and how it was trained."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    format: Literal["mecsim-policy"] = "mecsim-policy"
    format_version: Literal[1] = 1
    scheduler: str
    scenario: str
    """Name of the scenario of the training."""
    scenario_sha256: str
    """Hash of that scenario, without its description."""
    blocks: int
    """M, the number of DNN blocks, or the largest of a class of tasks."""
    classes: dict[str, int] = {}
    """The number of blocks of each class of tasks, in order; empty if there is only one."""
    servers: int
    """N, the number of edge servers."""
    decision_epoch: Literal["per_slot", "per_task"]
    features: list[str]
    """Names of the observed features, in order; custom ones last."""
    custom_features: FeatureSource | None = None
    """Where the custom features come from."""
    settings: dict[str, Any]
    """Training options, see ``mecsim train --settings``."""
    training: dict[str, Any]
    """Episodes, seed, workers and the reward on validation seeds."""
    mecsim_version: str


class Policy(NamedTuple):
    """The content of a policy file."""

    header: PolicyHeader
    arrays: Arrays


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Args:
        path: A file that :func:`write_policy` wrote.

    Returns:
        The header and the arrays, all finite.

    Raises:
        PolicyError: If the file is missing or damaged; the message names it.
    """
    metadata, arrays = read_tensors(path)
    return Policy(_header_in(path, metadata), arrays)


def read_header(path: Path) -> PolicyHeader:
    """Read the header of a policy file. Raises ``PolicyError`` like :func:`read_policy`."""
    with _opened(path) as file:
        return _header_in(path, file.metadata() or {})


def _header_in(path: Path, metadata: Mapping[str, str]) -> PolicyHeader:
    try:
        return PolicyHeader.model_validate_json(metadata.get(_KEY, ""))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = f"{key}: {first['msg']}" if key else "has no header of a mecsim policy"
        raise PolicyError(f"{path}: {problem}") from error


def write_policy(path: Path, policy: Policy) -> None:
    """Write a policy file; it appears under its name when it is complete.

    Args:
        path: The file to write; its folder is made.
        policy: Header and arrays.

    Raises:
        OutputError: If the file cannot be written.
    """
    optional = {"classes": policy.header.classes, "custom_features": policy.header.custom_features}
    unused = {name for name, value in optional.items() if not value}
    write_tensors(path, {_KEY: policy.header.model_dump_json(exclude=unused)}, policy.arrays)


def read_tensors(path: Path) -> tuple[dict[str, str], Arrays]:
    """Return the metadata and the arrays of a safetensors file. Raises ``PolicyError``."""
    with _opened(path) as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            problem = f"holds {array.dtype}" if array.dtype != np.float32 else "is not finite"
            raise PolicyError(f"{path}: array {name} {problem}; allowed: finite 32-bit floats")
    return metadata, arrays


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file. Raises ``PolicyError``, also for faults found while reading it."""
    try:
        with path.open("rb") as raw:
            if raw.seek(0, os.SEEK_END) > _MAX_BYTES:
                raise PolicyError(f"{path}: is larger than 1 GiB, the limit of policies")
        with safe_open(path, framework="numpy") as file:
            yield file
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyError(f"{path}: is not a safetensors file: {error}") from error


def write_tensors(path: Path, metadata: Mapping[str, str], arrays: Mapping[str, Any]) -> None:
    """Write a safetensors file in one step. Raises ``OutputError``."""
    data = save({name: np.ascontiguousarray(x) for name, x in arrays.items()}, dict(metadata))
    write_whole(path, data)
