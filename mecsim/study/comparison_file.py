"""Read the document of a comparison from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from mecsim.errors import InputError
from mecsim.study.report import Document

NAME: Final = "comparison.json"
_REMEDY: Final = "expected what `mecsim compare` wrote. Run it again with --resume"


class _Named(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    scenario: str
    scheduler: str
    sweep: dict[str, Any]


_Statistics: TypeAlias = dict[str, float | None]


class _Bound(BaseModel):
    gap_percent: float | None


class _Row(_Named):
    seed: int
    training_seed: int | None
    tasks: int
    completed: int
    failed: int
    overloaded: bool | None = None
    total_delay_s: _Statistics
    edge_delay_s: _Statistics
    local_delay_s: _Statistics
    energy_J: _Statistics
    total_delay_quantiles_s: list[float] | None = None
    late_blocks: int
    miss_ratio: float | None = None
    deadline_miss_ratio: float | None = None
    reward: float | None
    lower_bound: _Bound | None = None


class _Versus(BaseModel):
    percent: float | None
    percent_ci95_low: float | None
    percent_ci95_high: float | None


class _Entry(_Named):
    metric: str
    """Also one that only another version of mecsim knows: tables have it, figures leave it out."""
    seeds: int
    mean: float | None
    ci95_low: float | None
    ci95_high: float | None
    overloaded: int
    vs: dict[str, _Versus]


class _ClassEntry(_Entry):
    class_name: str


class _Failure(BaseModel):
    job: str
    cause: str


class _CurvePoint(_Named):
    training_seed: int
    episode: float
    reward: float


class _Comparison(BaseModel):
    rows: list[_Row]
    summary: list[_Entry]
    classes: list[_ClassEntry] = []
    failed: list[_Failure]
    curves: list[_CurvePoint] = []


def read_comparison(folder: Path) -> Document:
    """Return the document that ``mecsim compare`` wrote into a folder.

    What figures, tables and reports need of it is checked. A document of an earlier version has no
    ``curves``; they are empty then.

    Raises:
        InputError: The folder has no such file, or the file is damaged.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{folder}: has no {NAME}; expected a folder of `mecsim compare`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        document: Document = json.loads(text)
        _Comparison.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise InputError(f"{path}: is damaged: {where}: {first['msg']}; {_REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged: {error}; {_REMEDY}") from error
    document.setdefault("curves", [])
    return document
