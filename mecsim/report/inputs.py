"""Reading the files of a report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from mecsim.errors import InputError


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ``InputError``."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Read a table; numbers become numbers, empty fields None. Raises ``InputError``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: _parsed(text) for name, text in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error, TypeError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error


def _parsed(text: str | None) -> Any:
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
