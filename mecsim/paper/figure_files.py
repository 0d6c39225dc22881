"""Figure files: the studies behind a figure and the panels that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, ValidationError, model_validator

from mecsim.errors import InputError, ScenarioError
from mecsim.scenario import messages, shipped, yaml_source
from mecsim.scenario.schema import Section
from mecsim.study import plan
from mecsim.study.competitors import Competitor
from mecsim.study.jobs import Training
from mecsim.study.sweep import SETTING, Point, grid

Count: TypeAlias = Annotated[int, Field(ge=1)]
Sweep: TypeAlias = dict[str, Annotated[list[Any], Field(min_length=1)]]
PAPER, BEYOND = "fig", "beyond_"
"""Prefixes of the figures of the paper and of those beyond it."""
CURVE: Final = "learning_curve"
"""In place of a metric: the reward against the episodes of training."""
T = TypeVar("T", bound=Section)


class CompetitorSpec(Section):
    """A scheduler with options or a label."""

    name: str
    label: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    preset: str | None = None
    """A preset of a learner's training options; the figure's ``options`` then do not apply."""
    seeds: Count | None = None
    """Run only the first n seeds; None for all."""
    workers: Count | None = None
    episodes: Count | None = None
    """Episodes of each training; None for those of the figure. With ``--quick``, at most its."""
    trainings: Count | None = None
    """Number of trainings, at most that of the figure; None for all."""
    train_once: bool = False
    """Train a learner once, on the scenario without sweep and ``evaluate_on``."""


class TrainingSpec(Section):
    """How each learner is trained; ``seeds`` is the number of trainings."""

    episodes: Count
    seeds: Count = 3
    workers: Count = 1


class Quick(Section):
    """The values with ``--quick``."""

    seeds: Count
    training: TrainingSpec


class StudySpec(Section):
    """What is simulated; missing values are those of the figure."""

    scenarios: Annotated[tuple[str, ...], Field(min_length=1)] = ("vgg16_4es",)
    """Names of shipped scenarios."""
    overrides: tuple[str, ...] = ()
    sweep: Sweep = Field(default_factory=dict)
    quick_sweep: Sweep | None = None
    evaluate_on: dict[str, list[str]] = Field(default_factory=dict)
    """In place of a sweep: settings by name, each a list of overrides. Learners with ``train_once``
    are trained without them, the other learners with each of them."""
    quick_evaluate_on: tuple[str, ...] | None = None
    """The settings with ``--quick``."""
    schedulers: tuple[str | CompetitorSpec, ...] | None = None
    note: str = ""
    """A remark on the page, such as why a study is not in the paper."""

    @model_validator(mode="after")
    def _either_sweep_or_settings(self) -> Self:
        if self.sweep and self.evaluate_on:
            raise ValueError("has sweep and evaluate_on; expected one of them")
        for name in self.quick_evaluate_on or ():
            if name not in self.evaluate_on:
                allowed = ", ".join(self.evaluate_on) or "none"
                raise ValueError(f"has {name!r} in quick_evaluate_on; expected one of {allowed}")
        return self

    def points(self, *, quick: bool) -> list[Point]:
        """Return the points of the sweep, or the settings."""
        if self.evaluate_on:
            named = self.quick_evaluate_on if quick else None
            return grid({SETTING: named or tuple(self.evaluate_on)})
        return grid((self.quick_sweep if quick else None) or self.sweep)


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
    """Label of the x-axis; the key of the sweep if empty."""
    scenario: str | None = None
    """Show only this scenario of the study."""
    lines: Literal["scheduler", "scenario"] = "scheduler"
    """One line per scheduler, or one per scenario for the first scheduler."""
    relative: bool = False
    """Show means in units of the baseline's, over the seeds that both ran."""
    extra: bool = False
    """Draw the panel in a row below the others: the figure of the paper does not have it."""


class Figure(Section):
    """A figure of the paper: studies and panels."""

    keys_of_files: ClassVar[tuple[str, ...]] = ("extends",)

    title: str
    note: str = ""
    """A remark for comparison with the paper."""
    seeds: Count
    training: TrainingSpec
    quick: Quick
    schedulers: tuple[str | CompetitorSpec, ...]
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Default options of schedulers in this figure, by name; not of those with a ``preset``."""
    baseline: str = "greedy"
    lower_bound: bool = True
    studies: Annotated[dict[str, StudySpec], Field(min_length=1)]
    panels: Annotated[tuple[PanelSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _panels_have_studies(self) -> Self:
        for panel in self.panels:
            if panel.study not in self.studies:
                allowed = ", ".join(self.studies)
                raise ValueError(f"has a panel of study {panel.study!r}; expected one of {allowed}")
        return self

    def names_of(self) -> set[str]:
        """Return the names by which ``make_study`` knows the schedulers of the figure."""
        found = [each for name in self.studies for each in self._competitors(name)]
        return {name for each in found for name in (each.scheduler, _short_label(each))}

    def make_study(
        self, name: str, *, quick: bool = False, only: Sequence[str] = ()
    ) -> plan.Study | None:
        """Return a study of the figure, with fewer points and seeds if ``quick``.

        Args:
            name: The name of the study.
            quick: Whether to use the values for ``--quick``.
            only: Keep only these schedulers, if any are given: labels up to a comma, or names of
                schedulers. A name that is no label in the study stands for all variants.

        Returns:
            The study; None if no scheduler is left.
        """
        spec = self.studies[name]
        training = self.quick.training if quick else self.training
        seeds = self.quick.seeds if quick else self.seeds
        competitors = _chosen(self._competitors(name), only)
        if quick:
            competitors = [_at_most(each, training.episodes) for each in competitors]
        if not competitors:
            return None
        labels = [each.label for each in competitors]
        return plan.Study(
            scenarios={each: shipped.path(each) for each in spec.scenarios},
            competitors=competitors,
            seeds=range(seeds),
            points=spec.points(quick=quick),
            settings=spec.evaluate_on,
            overrides=spec.overrides,
            baseline=self.baseline if self.baseline in labels else labels[0],
            lower_bound=self.lower_bound,
            training=Training(training.episodes, training.workers),
            training_seeds=range(training.seeds),
        )

    def _competitors(self, study: str) -> list[Competitor]:
        given = self.studies[study].schedulers or self.schedulers
        return [self._competitor(each) for each in given]

    def _competitor(self, given: str | CompetitorSpec) -> Competitor:
        spec = CompetitorSpec(name=given) if isinstance(given, str) else given
        label = spec.label or spec.name
        shared = self.options.get(spec.name, {}) if spec.preset is None else {}
        return Competitor(
            label=label,
            scheduler=spec.name,
            options=shared | spec.options,
            preset=spec.preset,
            seeds=spec.seeds,
            workers=spec.workers,
            episodes=spec.episodes,
            trainings=spec.trainings,
            train_once=spec.train_once,
        )


def _short_label(competitor: Competitor) -> str:
    """Return a label without the remark after a comma, which lists of names cannot hold."""
    return competitor.label.partition(",")[0]


def _chosen(competitors: list[Competitor], only: Sequence[str]) -> list[Competitor]:
    labels = {_short_label(each) for each in competitors}
    of_schedulers = set(only) - labels
    return [
        each
        for each in competitors
        if not only or _short_label(each) in only or each.scheduler in of_schedulers
    ]


def _at_most(competitor: Competitor, episodes: int) -> Competitor:
    """Return a competitor that trains for no more than a number of episodes."""
    if competitor.episodes is None:
        return competitor
    return replace(competitor, episodes=min(competitor.episodes, episodes))


def figure_names() -> list[str]:
    """Return the names of the figure files: those of the paper in its order, then the others."""
    files = (resources.files("mecsim.paper") / "figures").iterdir()
    found = sorted(file.name.removesuffix(".yaml") for file in files)
    of_paper = [name for name in found if name.startswith(PAPER)]
    beyond = [name for name in found if name.startswith(BEYOND)]
    return [*sorted(of_paper, key=lambda name: int(name.removeprefix(PAPER))), *beyond]


def load_figure(name: str) -> Figure:
    """Read a figure file. Raises ``InputError`` for an unknown name."""
    known = figure_names()
    if name not in known:
        raise InputError(f"figure {name!r}: is unknown; expected one of {', '.join(known)} or all")
    return read(Path(str(resources.files("mecsim.paper") / "figures" / f"{name}.yaml")), Figure)


def read(path: Path, kind: type[T]) -> T:
    """Read a YAML file as a model. Raises ``ScenarioError`` with file, line, key and value."""
    document = yaml_source.read(path)
    try:
        return kind.model_validate(document.values)
    except ValidationError as error:
        raise ScenarioError("\n".join(messages.messages(document, error))) from error


def load_figures(names: Sequence[str]) -> Mapping[str, Figure]:
    """Read figure files; all of them for no names or ``all``."""
    chosen = figure_names() if not names or "all" in names else list(dict.fromkeys(names))
    return {name: load_figure(name) for name in chosen}
