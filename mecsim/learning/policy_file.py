"""Trained policies: safetensors files with a JSON header. Nothing in them is ever executed."""

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
from mecsim.support.files import write_whole

Arrays = dict[str, NDArray[np.float32]]

SUFFIX: Final = ".safetensors"
_KEY: Final = "mecsim"
_MOST_BYTES: Final = 1 << 30


class PolicyHeader(BaseModel):
    """What a policy file says of itself."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    format: Literal["mecsim-policy"] = "mecsim-policy"
    format_version: Literal[1] = 1
    scheduler: str
    scenario: str
    """Name of the scenario that it was trained on."""
    scenario_sha256: str
    blocks: int
    """M."""
    servers: int
    """N."""
    decision_epoch: Literal["per_slot", "per_task"]
    features: list[str]
    """Names of the features that it decides by."""
    settings: dict[str, Any]
    """Training settings."""
    training: dict[str, Any]
    """Episodes, seed, workers and what came of it."""
    mecsim_version: str


class Policy(NamedTuple):
    """A header and named arrays."""

    header: PolicyHeader
    arrays: Arrays


def read_policy(path: Path) -> Policy:
    """Read a policy. Raises ``PolicyError`` that names the file and what is wrong with it."""
    metadata, arrays = read_tensors(path)
    return Policy(_header_in(path, metadata), arrays)


def read_header(path: Path) -> PolicyHeader:
    """Read what a policy file says of itself. Raises ``PolicyError`` as :func:`read_policy`."""
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
    """Write a policy; it takes its name when it is complete. Raises ``OutputError``."""
    write_tensors(path, {_KEY: policy.header.model_dump_json()}, policy.arrays)


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
    """Open a safetensors file. Raises ``PolicyError``, also for what is found wrong later."""
    try:
        with path.open("rb") as raw:
            if raw.seek(0, os.SEEK_END) > _MOST_BYTES:
                raise PolicyError(f"{path}: is larger than 1 GiB, which no policy is")
        with safe_open(path, framework="numpy") as file:
            yield file
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyError(f"{path}: is no safetensors file: {error}") from error


def write_tensors(path: Path, metadata: Mapping[str, str], arrays: Mapping[str, Any]) -> None:
    """Write a safetensors file; it takes its name when it is complete. Raises ``OutputError``."""
    data = save({name: np.ascontiguousarray(x) for name, x in arrays.items()}, dict(metadata))
    write_whole(path, data)
