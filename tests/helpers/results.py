"""Figures of the paper and invented results of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

from mecsim.paper import panels, reproduce
from mecsim.paper.claims import AnyClaim
from mecsim.paper.figure_files import Figure, load_figures
from mecsim.paper.verdicts import Finding
from mecsim.study import summary as summary_module
from mecsim.study.competitors import Competitor
from mecsim.study.summary import CurvePoint, Row
from mecsim.study.sweep import Point

PAPER = [f"fig{n}" for n in range(6, 14)]
BEYOND = [
    f"beyond_{which}"
    for which in (
        "224",
        "ablation",
        "bursts",
        "episodes",
        "generalisation",
        "poisson",
        "sparse",
        "task_epochs",
    )
]
HEURISTICS = ("greedy", "apdi", "rpdi", "single-cut", "lookahead")


def competitors_of(
    figure: Figure, name: str, *, quick: bool = False, only: Sequence[str] = ()
) -> dict[str, Competitor]:
    """The competitors of a study, by label."""
    made = figure.make_study(name, quick=quick, only=only)
    assert made is not None
    return {each.label: each for each in made.competitors}


def invented(figures: Mapping[str, Figure]) -> panels.Results:
    """Results as a world would give them in which MTL-A3C saves 5% of everything."""
    rows: dict[str, list[Row]] = {}
    curves: dict[str, list[CurvePoint]] = {}
    worth = {"mtl-a3c": 0.95, "a3c": 1.0, "dqn": 1.02, "lookahead": 0.8}
    for name, figure in figures.items():
        for each in figure.studies:
            made, place = figure.make_study(each), f"{name}.{each}"
            assert made is not None
            rows[place], curves[place] = [], []
            for at, point in enumerate(made.points):
                for scenario in made.scenarios:
                    for competitor in made.competitors:
                        learns = competitor.scheduler in ("mtl-a3c", "a3c", "dqn")
                        for training in range(3) if learns else (None,):
                            mean = worth.get(competitor.label, 1.1) * (1 + 0.1 * at)
                            mean += 0.001 * (training or 0)
                            rows[place] += [
                                invented_row(
                                    scenario, point, competitor.label, training, seed, mean
                                )
                                for seed in made.seeds
                            ]
                            if training is not None and not at:
                                curves[place] += [
                                    {"scenario": scenario, "sweep": point, "episode": episode,
                                     "scheduler": competitor.label, "training_seed": training,
                                     "reward": -100.0 * mean / (1 + episode)}
                                    for episode in (0, 10, 20, 30)
                                ]  # fmt: skip
    summary = {place: summary_module.summarise(found, "greedy") for place, found in rows.items()}
    return panels.Results(rows, summary, curves)


@cache
def everything() -> panels.Results:
    """Results of all figures, to be read only."""
    return invented(load_figures([]))


@cache
def findings() -> list[tuple[AnyClaim, Finding]]:
    """The claims of the paper with their findings in those results, to be read only."""
    return reproduce.judged(everything())


def invented_row(
    scenario: str, point: Point, label: str, training: int | None, seed: int, mean: float
) -> Row:
    values = dict.fromkeys(("mean", "p95", "p99"), mean + 0.002 * (seed % 3))
    delays = dict.fromkeys(("total_delay_s", "edge_delay_s", "local_delay_s"), values)
    document = {
        "scenario": scenario, "sweep": point, "scheduler": label, "seed": seed,
        "training_seed": training, "reward": -1000 * values["mean"], "late_blocks": 0, "failed": 0,
        "overloaded": None,
        "energy_J": values, "tasks": 10, "completed": 10, "events": 100,
    }  # fmt: skip
    return cast(Row, document | delays)
