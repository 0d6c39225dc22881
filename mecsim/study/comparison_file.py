"""Read the document of a comparison from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mecsim.errors import InputError
from mecsim.simulation.metrics import METRICS
from mecsim.study.report import Document

NAME: Final = "comparison.json"
_REMEDY: Final = "expected what `mecsim compare` wrote. Run it again with --resume"


class _Named(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    scenario: str
    scheduler: str
    sweep: dict[str, Any]


class _Row(_Named):
    seed: int
    training_seed: int | None
    total_delay_quantiles_s: list[float] | None = None


class _Entry(_Named):
    metric: Literal[tuple(METRICS)]  # type: ignore[valid-type]
    seeds: int
    mean: float | None
    ci95_low: float | None
    ci95_high: float | None
    overloaded: int
    vs: dict[str, Any]


class _Comparison(BaseModel):
    rows: list[_Row]
    summary: list[_Entry]


def read_comparison(folder: Path) -> Document:
    """Return the document that ``mecsim compare`` wrote into a folder.

    What figures and tables need of it is checked.

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
    return document
