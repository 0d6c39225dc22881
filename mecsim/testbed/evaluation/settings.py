"""The file of an evaluation: which runs are measured, and which ranking of schedulers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from mecsim.errors import ScenarioError
from mecsim.model.model import self_contained
from mecsim.scenario import messages, yaml_source
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from mecsim.scenario.section import Section, fault

Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Seed: TypeAlias = Annotated[int, Field(ge=0)]


class Setup(Section):
    """How a scenario runs on the testbed."""

    scenario: str
    """The file of the scenario, relative to this file."""
    overrides: tuple[str, ...] = ()
    """Values that replace those of the scenario, as ``KEY.PATH=VALUE``."""
    nodes: Literal["padded", "natural"] = "padded"
    links: Literal["pacing", "tbf"] = "pacing"
    stretch: Annotated[float, Field(gt=0)] = 1.0

    def load(self, folder: Path, slots: int | None = None) -> Scenario:
        """Load the scenario, perhaps with fewer slots. Raises ``ScenarioError``."""
        fewer = () if slots is None else (f"slots={slots}",)
        scenario = load(folder / self.scenario, (*self.overrides, *fewer))
        with scenario.locating():
            return self_contained(scenario)


class PlannedRun(Setup):
    """A run whose second part is predicted."""

    name: Name
    about: str
    """A line for readers."""
    scheduler: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the scheduler; a ``policy`` is a file relative to this file."""
    seed: Seed = 0


class Ranking(Setup):
    """Schedulers that are ranked by measurement and by simulation."""

    schedulers: Annotated[dict[str, dict[str, Any]], Field(min_length=2)]
    """The options of each scheduler by its name."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=2)]
    calibrated_on: str | None = None
    """The run of ``runs`` on which a scenario is calibrated, to predict the measured runs."""


class Evaluation(Section):
    """An evaluation of the simulator against the testbed."""

    first: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of the tasks of a run on which the scenario is calibrated."""
    runs: Annotated[tuple[PlannedRun, ...], Field(min_length=1)]
    ranking: Ranking | None = None

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        names = Counter(each.name for each in self.runs)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise fault(("runs",), f"has several runs {twice[0]!r}; give each run its own name")
        wanted = self.ranking.calibrated_on if self.ranking else None
        if wanted is not None and wanted not in names:
            problem = f"{wanted!r} is the name of no run; allowed: {', '.join(names)}"
            raise fault(("ranking", "calibrated_on"), problem)
        return self


def read_evaluation(path: Path) -> Evaluation:
    """Read the file of an evaluation. Raises ``ScenarioError`` with file, line, key and value."""
    document = yaml_source.read(path)
    try:
        return Evaluation.model_validate(document.values)
    except ValidationError as error:
        raise ScenarioError("\n".join(messages.messages(document, error))) from error


def with_policy(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return options in which the path of a policy is relative to the working directory."""
    policy = options.get("policy")
    return options if policy is None else options | {"policy": str(folder / str(policy))}
