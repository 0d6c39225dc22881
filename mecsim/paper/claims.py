"""The claims of the paper as data."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator

from mecsim.paper.figure_files import read
from mecsim.scenario.schema import Section

PROPOSED: Final = "mtl-a3c"
"""The scheduler that the paper proposes."""
DEFAULT: Final = "vgg16_4es"
"""The scenario of all figures except the last."""

Shape: TypeAlias = Literal[
    "falling", "rising", "rising slightly", "falls then rises", "rises then flat", "flat"
]


class Claim(Section):
    """The fields of every claim."""

    id: str
    says: str
    """The claim, paraphrased."""
    metric: str
    """A metric of runs, or of trainings: final_reward, episodes_to_converge."""
    where: tuple[str, ...]
    """Figures and their studies, as ``fig8.servers``."""
    context: str = ""
    """A remark for the reader."""
    fitted: bool = False
    """Whether the default scenario was fitted to this number, so that it is no test."""


class Improvement(Claim):
    """The proposed scheduler reduces the metric by a percentage relative to others."""

    kind: Literal["improvement"]
    over: tuple[str, ...]
    """The schedulers that it is compared with; their mean if there are several."""
    at: tuple[dict[str, Any], ...] = ()
    """Points, one per percentage; empty for the mean over all points."""
    percent: tuple[float, ...]


class Order(Claim):
    """The first of each pair is better, over all points."""

    kind: Literal["order"]
    pairs: tuple[tuple[str, str], ...]
    among: Literal["scheduler", "scenario"] = "scheduler"


class Trend(Claim):
    """How a metric changes along a sweep, or along schedulers with different settings."""

    kind: Literal["trend"]
    shape: Shape
    more_metrics: tuple[str, ...] = ()
    """Metrics with the same claimed shape."""
    schedulers: tuple[str, ...] = (PROPOSED,)
    scenarios: tuple[str, ...] = (DEFAULT,)
    along: Literal["sweep", "schedulers", "episodes"] = "sweep"
    best: str | None = None
    lowest: str | None = None
    """The place of the lowest value, from which on the shape is claimed."""
    gap_to: tuple[str, ...] = ()
    """Judge the gap from the metric up to that of each of these schedulers, not the metric."""


class Value(Claim):
    """A metric has a certain value."""

    kind: Literal["value"]
    scheduler: str
    value: float


AnyClaim: TypeAlias = Annotated[Improvement | Order | Trend | Value, Discriminator("kind")]


class Claims(Section):
    """The file of claims."""

    claims: tuple[AnyClaim, ...]


def load_claims() -> tuple[AnyClaim, ...]:
    """Read the claims shipped with mecsim."""
    return read(
        Path(str(resources.files("mecsim.paper") / "figures" / "claims.yaml")), Claims
    ).claims
