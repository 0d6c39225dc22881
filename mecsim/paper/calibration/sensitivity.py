"""How the levels move if one number of a setting moves, and what an episode of 600 slots gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from mecsim.paper.calibration.levels import Levels, PlacementSearch, levels
from mecsim.paper.calibration.settings import Setting
from mecsim.simulation.run import run

SEEDS: Final = range(3)
BUDGET: Final = 400


@dataclass(frozen=True)
class Step:
    """One number of a setting moved by a round step."""

    text: str
    changes: dict[str, Any]
    places: Literal["all", "servers"] = "all"


@dataclass(frozen=True)
class Moved:
    """Levels after a step."""

    text: str
    four: Levels
    six: Levels


@dataclass(frozen=True)
class Episode:
    """An episode of 600 slots with four and six servers under one seed."""

    seed: int
    reward: float
    """Of lookahead with four servers."""
    greedy_reward: float
    gap_percent: float
    """Of the total delays of lookahead and greedy with six servers."""


def steps(setting: Setting) -> list[Step]:
    """Return the steps from a setting."""

    def around(name: str, text: str, step: float) -> list[Step]:
        value = getattr(setting, name)
        moved = [round(value + sign * step, 6) for sign in (-1, 1)]
        return [Step(f"{text} {each:g}", {name: each}) for each in moved]

    patterns = [each for each in ("rising", "falling", "alternating") if each != setting.pattern]
    return [
        Step("none", {}),
        *around("cycles_per_flop", "cycles a FLOP", 1),
        *around("start_ghz", "slowest server, GHz:", 0.5),
        *around("step_ghz", "step between servers, GHz:", 0.1),
        *(Step(f"servers {each}", {"pattern": each}) for each in patterns),
        *around("device_ghz", "devices, GHz:", 0.1),
        *around("tolerated_s", "τ, s:", 1),
        *(Step(f"{each} devices", {"devices": each}) for each in (20, 60)),
        *(Step(f"β = {each:g}", {"beta": each}) for each in (0.5, 2.0)),
        Step("rates uniform in [0.8, 2] MB/s", {"radio_rate": "{uniform: [0.8 MB/s, 2 MB/s]}"}),
        Step("all sizes 1", {"sizes": (1.0,)}),
        Step("balanced cut", {"blocks": 6}),
        Step("greedy over servers only", {}, "servers"),
    ]


def moved(setting: Setting, step: Step) -> Moved:
    """Return the levels after a step."""
    changed = replace(setting, **step.changes)
    four = levels(changed, places=step.places)
    six = levels(replace(changed, edge_servers=6), [np.array(four.placement)], places=step.places)
    return Moved(step.text, four, six)


def episode(setting: Setting, seed: int) -> Episode:
    """Run lookahead and greedy for 600 slots, with four and with six servers."""

    def summary(servers: int, scheduler: str, **options: Any) -> Any:
        scenario = replace(setting, edge_servers=servers).episode()
        return run(scenario, scheduler, options, seed=seed, kernel="compiled").summary

    best, greedy = summary(4, "lookahead", budget=BUDGET), summary(4, "greedy")
    six = summary(6, "lookahead", budget=BUDGET).total_delay_s.mean
    gap = 100 * (1 - six / summary(6, "greedy").total_delay_s.mean)
    return Episode(seed, best.reward, greedy.reward, gap)


def excess_percent(setting: Setting, placement: Sequence[int]) -> float:
    """Return by how many per cent a placement costs more than the best of all placements."""
    search = PlacementSearch(setting.scenario())
    least = search.costs(search.all_placements()).min()
    return float(100 * (search.costs(np.array([placement]))[0] / least - 1))
