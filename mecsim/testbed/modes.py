"""How the nodes and links of a testbed are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

NodeMode: TypeAlias = Literal["padded", "natural"]
LinkMode: TypeAlias = Literal["pacing", "tbf"]


@dataclass(frozen=True)
class Modes:
    """How nodes and links are made."""

    nodes: NodeMode = "padded"
    """Whether services last as long as in the scenario, or as the machine takes."""
    links: LinkMode = "pacing"
    """Whether the sender keeps to the rate of a link, or the operating system."""
    stretch: float = 1.0
    """Real seconds for one second of the scenario."""
