"""What made a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """What made a trace, apart from the scenario: root attributes of the file."""

    scheduler: str
    scheduler_options: Mapping[str, Any]
    seed: int
    kernel: str
