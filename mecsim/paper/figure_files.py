"""Figures as they are described: what is simulated for them and what their panels show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, ValidationError, model_validator

from mecsim.errors import InputError, ScenarioError
from mecsim.scenario import messages, yaml_source
from mecsim.scenario.schema import Section
from mecsim.study import plan
from mecsim.study.jobs import Training

Count: TypeAlias = Annotated[int, Field(ge=1)]
Sweep: TypeAlias = dict[str, Annotated[list[Any], Field(min_length=1)]]
PAPER, BEYOND = "fig", "beyond_"
"""How the names of the paper's figures begin, and those of ours."""
CURVE: Final = "learning_curve"
"""In place of a metric: the reward along the episodes of training."""
T = TypeVar("T", bound=Section)


class CompetitorSpec(Section):
    """A scheduler with options, or under a name of its own."""

    name: str
    label: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    seeds: Count | None = None
    """Meets only so many of the seeds, the first ones."""
    workers: Count | None = None
    once: bool = False
    """A learner that is trained on the study's scenario without sweep and ``evaluate_on``."""


class TrainingSpec(Section):
    """How each learner is trained, and how often."""

    episodes: Count
    seeds: Count = 3
    workers: Count = 1


class Quick(Section):
    """What ``--quick`` does instead."""

    seeds: Count
    training: TrainingSpec


class StudySpec(Section):
    """What is simulated; what is left out is as the figure says."""

    scenarios: Annotated[tuple[str, ...], Field(min_length=1)] = ("vgg16_4es",)
    """Names of shipped scenarios."""
    overrides: tuple[str, ...] = ()
    sweep: Sweep = Field(default_factory=dict)
    quick_sweep: Sweep | None = None
    evaluate_on: dict[str, list[str]] = Field(default_factory=dict)
    """In place of a sweep: names of settings, each with what it changes. Schedulers with ``once``
    are trained without these changes, the other learners with each of them."""
    quick_evaluate_on: tuple[str, ...] | None = None
    """The names that are enough if it must be quick."""
    schedulers: tuple[str | CompetitorSpec, ...] | None = None
    ours: str = ""
    """Why this is here though the paper does not have it."""

    @model_validator(mode="after")
    def _either_sweep_or_settings(self) -> Self:
        if self.sweep and self.evaluate_on:
            raise ValueError("has sweep and evaluate_on; allowed: one of them")
        for name in self.quick_evaluate_on or ():
            if name not in self.evaluate_on:
                allowed = ", ".join(self.evaluate_on) or "none"
                raise ValueError(f"has {name!r} in quick_evaluate_on; allowed: {allowed}")
        return self

    def points(self, *, quick: bool) -> list[plan.Point]:
        """Return where the schedulers meet: the points of the sweep, or the named settings."""
        if self.evaluate_on:
            named = self.quick_evaluate_on if quick else None
            return plan.grid({plan.SETTING: named or tuple(self.evaluate_on)})
        return plan.grid((self.quick_sweep if quick else None) or self.sweep)


class PanelSpec(Section):
    """One pair of axes."""

    study: str
    metric: Literal[
        "total_delay_s",
        "edge_delay_s",
        "local_delay_s",
        "energy_J",
        "reward",
        "late_blocks",
        "optimality_gap_percent",
        "learning_curve",
    ]
    title: str = ""
    x: str = ""
    """What the axis says; otherwise the key of the sweep."""
    scenario: str | None = None
    """Show one of the study's scenarios only."""
    lines: Literal["scheduler", "scenario"] = "scheduler"
    """A line a scheduler; or a line a scenario, of the first scheduler."""
    relative: bool = False
    """Show means in units of the baseline's, over the seeds that both have met."""


class Figure(Section):
    """A figure of the paper: studies and panels."""

    title: str
    note: str = ""
    """What a reader has to know to compare it with the paper's."""
    seeds: Count
    training: TrainingSpec
    quick: Quick
    schedulers: tuple[str | CompetitorSpec, ...]
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of schedulers, by name, wherever in the figure they take part and say no other."""
    baseline: str = "greedy"
    bound: bool = True
    studies: Annotated[dict[str, StudySpec], Field(min_length=1)]
    panels: Annotated[tuple[PanelSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _panels_have_studies(self) -> Self:
        for panel in self.panels:
            if panel.study not in self.studies:
                allowed = ", ".join(self.studies)
                raise ValueError(f"has a panel of study {panel.study!r}; allowed: {allowed}")
        return self

    def schedulers_of(self) -> set[str]:
        """Return the names of all schedulers that take part."""
        of_studies = (each.schedulers or self.schedulers for each in self.studies.values())
        return {self._competitor(each).scheduler for some in of_studies for each in some}

    def make_study(
        self, name: str, *, quick: bool = False, only: Sequence[str] = ()
    ) -> plan.Study | None:
        """Return what is simulated, with fewer points and seeds if it must be quick.

        ``only`` these schedulers take part, if given; None where that leaves nothing.
        """
        spec = self.studies[name]
        training = self.quick.training if quick else self.training
        seeds = self.quick.seeds if quick else self.seeds
        competitors = [self._competitor(each) for each in spec.schedulers or self.schedulers]
        competitors = [each for each in competitors if not only or each.scheduler in only]
        if not competitors:
            return None
        labels = [each.label for each in competitors]
        return plan.Study(
            scenarios={each: shipped_scenario(each) for each in spec.scenarios},
            competitors=competitors,
            seeds=range(seeds),
            points=spec.points(quick=quick),
            places=spec.evaluate_on,
            overrides=spec.overrides,
            baseline=self.baseline if self.baseline in labels else labels[0],
            bound=self.bound,
            training=Training(training.episodes, training.workers),
            training_seeds=range(training.seeds),
        )

    def _competitor(self, given: str | CompetitorSpec) -> plan.Competitor:
        spec = CompetitorSpec(name=given) if isinstance(given, str) else given
        label = spec.label or spec.name
        options = self.options.get(spec.name, {}) | spec.options
        return plan.Competitor(label, spec.name, options, spec.seeds, spec.workers, spec.once)


def shipped_scenario(name: str) -> Path:
    """Return the path of a scenario that comes with mecsim. Raises ``InputError``."""
    package = Path(str(resources.files("mecsim")))
    for folder in (package / "scenarios", package.parent / "scenarios"):  # a wheel, a checkout
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise InputError(f"scenario {name!r}: does not come with mecsim")


def figure_names() -> list[str]:
    """Return the names of the figures described: the paper's in its order, then ours."""
    files = (resources.files("mecsim.paper") / "figures").iterdir()
    found = sorted(file.name.removesuffix(".yaml") for file in files)
    of_paper = [name for name in found if name.startswith(PAPER)]
    ours = [name for name in found if name.startswith(BEYOND)]
    return [*sorted(of_paper, key=lambda name: int(name.removeprefix(PAPER))), *ours]


def load_figure(name: str) -> Figure:
    """Read the description of a figure. Raises ``InputError`` for an unknown name."""
    known = figure_names()
    if name not in known:
        raise InputError(f"figure {name!r}: is not known; allowed: {', '.join(known)} or all")
    return read(Path(str(resources.files("mecsim.paper") / "figures" / f"{name}.yaml")), Figure)


def read(path: Path, kind: type[T]) -> T:
    """Read a YAML file as a model. Raises ``ScenarioError`` with file, line, key and value."""
    document = yaml_source.read(path)
    try:
        return kind.model_validate(document.values)
    except ValidationError as error:
        raise ScenarioError("\n".join(messages.messages(document, error))) from error


def load_figures(names: Sequence[str]) -> Mapping[str, Figure]:
    """Read the descriptions of figures; ``all`` of them, or without names, too."""
    chosen = figure_names() if not names or "all" in names else list(dict.fromkeys(names))
    return {name: load_figure(name) for name in chosen}
