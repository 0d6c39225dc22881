"""Parts of the calibration, against numbers worked out by hand and against plain runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mecsim.model.model import resolve
from mecsim.model.workload import slots
from mecsim.paper.calibration import criterion
from mecsim.paper.calibration import levels as levels_module
from mecsim.paper.calibration.__main__ import choose
from mecsim.paper.calibration.criterion import Candidate, fitted
from mecsim.paper.calibration.levels import (
    Levels,
    Outcome,
    PlacementSearch,
    levels,
    mean_outcome,
    neighbours,
    outcome,
)
from mecsim.paper.calibration.page import Calibration, page, search_table, trend_table
from mecsim.paper.calibration.sensitivity import Episode, Moved, Step, moved, steps
from mecsim.paper.calibration.settings import Pattern, Setting, grid
from mecsim.paper.calibration.trends import SWEEPS, TESTS, Trends, carried
from mecsim.scenario.loading import with_overrides
from mecsim.simulation.run import run

SETTING = Setting(26.0, 4.0, "rising", 7.0, 0.2)


def made_up(
    delay: float = 90.0, energy: float = 1.0, *, reward: float = -17_767.0, local: float = 10.0
) -> Levels:
    """Return levels whose greedy has a delay of 100 s and an energy of 2 J."""
    best = Outcome(reward, delay, delay - local, local, energy)
    return Levels(best, Outcome(-20_000.0, 100.0, 90.0, 10.0, 2.0), (0, 1))


def along(delays: list[float], energies: list[float]) -> list[Levels]:
    return [made_up(*pair) for pair in zip(delays, energies, strict=True)]


def candidate(gap: float, *, setting: Setting = SETTING, local: float = 10.0) -> Candidate:
    return Candidate(setting, made_up(local=local), made_up(100 - gap, local=local))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("alike", (7.0,)),
        ("alternating", (7.0, 7.2)),
        ("rising", (7.0, 7.2, 7.4, 7.6, 7.8, 8.0, 8.2, 8.4, 8.6)),
        ("falling", (8.6, 8.4, 8.2, 8.0, 7.8, 7.6, 7.4, 7.2, 7.0)),
    ],
)
def test_capacities(pattern: Pattern, expected: tuple[float, ...]) -> None:
    setting = replace(SETTING, pattern=pattern)
    assert setting.server_ghz == expected
    capacities = resolve(setting.scenario()).speed[:4]
    assert capacities.tolist() == pytest.approx(
        [1e9 * expected[n % len(expected)] for n in range(4)]
    )


def test_a_grid_has_every_setting_once() -> None:
    found = list(grid())
    # 11 capacities; servers alike, or three patterns with three steps
    assert len(found) == len(set(found)) == 11 * (1 + 3 * 3)


def test_a_size_stands_for_slots_of_that_size() -> None:
    """The scaled slot of size 1 is a slot of the drawn size, of any placement."""
    one = with_overrides(SETTING.episode(), ["slots=1"])
    size = float(next(iter(slots(resolve(one)))).tasks.size[0, 0])
    assert size != 1
    summary = run(one, "fixed", {"placement": [3, 4, 0, 0, 2, 1]}, kernel="compiled").summary
    found = outcome(SETTING, "fixed", size, placement=[3, 4, 0, 0, 2, 1])
    assert found.reward == pytest.approx(600 * summary.reward, rel=1e-9)
    assert found.energy_J == pytest.approx(summary.energy_J.mean, rel=1e-9)
    for name in ("total_delay_s", "edge_delay_s", "local_delay_s"):
        assert getattr(found, name) == pytest.approx(getattr(summary, name).mean, rel=1e-9)


def test_neighbours_differ_in_up_to_two_blocks() -> None:
    placement = np.array([0, 1, 2, 0])
    near = {tuple(row) for row in neighbours(placement, 3, 2).tolist()}
    differ = {sum(a != b for a, b in zip(row, (0, 1, 2, 0), strict=True)) for row in near}
    assert differ == {0, 1, 2}
    assert len(near) == 1 + 4 * 2 + 6 * 4  # none, one of four blocks, two of four


@pytest.mark.parametrize("exhaustive", [0, 20_000])
@pytest.mark.parametrize("servers", [1, 2])
def test_search_finds_the_best_of_all_placements(
    servers: int, exhaustive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels_module, "EXHAUSTIVE", exhaustive)
    search = PlacementSearch(replace(SETTING, edge_servers=servers).scenario())
    every = search.all_placements()
    assert len({tuple(row) for row in every.tolist()}) == (servers + 1) ** 6
    cost, placement = search.best()
    assert cost == search.costs(every).min() == search.costs(placement[None])[0]


def test_levels_are_those_of_the_best_placement_and_greedy() -> None:
    setting = replace(SETTING, sizes=(1.0,))
    found = levels(setting)
    cost, placement = PlacementSearch(setting.scenario()).best()
    assert found.best.reward == pytest.approx(-600 * cost, rel=1e-12)
    assert found.placement == tuple(placement)
    assert found.greedy == outcome(setting, "greedy", 1.0)
    servers_only = levels(setting, places="servers").greedy
    assert (servers_only.local_delay_s, found.greedy.local_delay_s > 0) == (0, True)


def test_means_of_outcomes() -> None:
    one, other = Outcome(-1.0, 2.0, 3.0, 4.0, 5.0), Outcome(-3.0, 4.0, 5.0, 6.0, 7.0)
    assert mean_outcome([one, other]) == Outcome(-2.0, 3.0, 4.0, 5.0, 6.0)


def test_targets_have_the_same_margin() -> None:
    # 18,300 / 1.03 and 100 − 92.47 / 1.03
    assert pytest.approx(-17_766.99, abs=0.01) == criterion.TARGET_REWARD
    assert pytest.approx(10.223, abs=0.001) == criterion.TARGET_GAP
    exact = Candidate(
        SETTING,
        made_up(reward=criterion.TARGET_REWARD),
        made_up(100 - criterion.TARGET_GAP),
    )
    assert exact.distance == pytest.approx(0, abs=1e-9)
    assert exact.implied_margins == pytest.approx((0.03, 0.03))


def test_a_candidate_meets_the_levels_within_their_tolerances() -> None:
    assert candidate(11.2).meets_levels
    assert not candidate(11.3).meets_levels
    assert candidate(10.2).distance == pytest.approx(0.0232, abs=1e-3)  # of one point
    four, six = made_up(reward=1.021 * criterion.TARGET_REWARD), made_up(89.8)
    assert not Candidate(SETTING, four, six).meets_levels


@pytest.mark.slow
def test_cycles_are_fitted_to_the_reward() -> None:
    start = replace(SETTING, sizes=(1.0,))
    found = fitted(replace(start, cycles_per_flop=1.0))

    def off(cycles: float) -> float:
        setting = replace(start, cycles_per_flop=cycles)
        return abs(levels(setting).best.reward - criterion.TARGET_REWARD)

    cycles = found.setting.cycles_per_flop
    assert found.setting == replace(start, cycles_per_flop=cycles)
    assert off(cycles) < min(off(cycles - 1), off(cycles + 1))


def test_the_choice_is_the_nearest_that_the_rule_admits() -> None:
    admitted = candidate(10.9)
    others = [
        candidate(10.9 + 0.1),
        candidate(13.0),
        candidate(10.2, local=0.0),
        candidate(10.2, setting=replace(SETTING, pattern="alike")),
    ]
    assert choose([*others, admitted]) is admitted


def test_a_placement_is_carried_to_other_cuts() -> None:
    before = np.array([6.0, 4.0])
    assert carried([1, 2], before, np.array([5.0, 3.0, 2.0])).tolist() == [1, 2, 2]
    assert carried([1, 2], before, before).tolist() == [1, 2]
    assert carried([3, 0, 1], np.array([1.0, 2.0, 7.0]), np.array([4.0, 6.0])).tolist() == [0, 1]


def good_trends() -> Trends:
    """Return trends that pass all tests, with a greedy of 100 s and 2 J everywhere."""
    rates = along([99, 99.5, 98, 96, 94, 90], [1, 1, 1, 1, 1, 1.5])
    rates[-1] = Levels(Outcome(-1.0, 90.0, 70.0, 20.0, 1.5), rates[-1].greedy, (0, 1))
    rates[0] = Levels(Outcome(-1.0, 99.0, 60.0, 10.0, 1.0), rates[0].greedy, (0, 1))
    return Trends(
        edge_servers=along([95, 94, 94, 93, 92], [1.9, 1.8, 1.8, 1.7, 1.0]),
        rate=rates,
        blocks=along([95, 94, 93, 92, 91, 90], [1, 1, 1, 1, 1, 1.1]),
        tolerated_s=along([95, 94, 94, 95], [1, 1, 1, 1]),
    )


def test_every_trend_can_pass_and_fail() -> None:
    good = good_trends()
    backwards = Trends(*(list(reversed(points)) for points in vars(good).values()))
    backwards = replace(
        backwards,
        tolerated_s=along([95, 94, 94, 94], [1] * 4),
        edge_servers=along([92, 93, 94, 94, 95], [1, 1.7, 2.5, 1.8, 1.9]),
    )
    assert [name for name, holds in TESTS.items() if not holds(good)] == []
    assert [name for name, holds in TESTS.items() if holds(backwards)] == []


def test_each_step_moves_one_number() -> None:
    found = steps(SETTING)
    assert found[0] == Step("none", {})
    for step in found[1:]:
        assert replace(SETTING, **step.changes) != SETTING or step.places == "servers"
        assert len(step.changes) == (step.places == "all")
    assert Step("cycles a FLOP 27", {"cycles_per_flop": 27.0}) in found


def test_a_step_is_not_fitted_again() -> None:
    found = moved(replace(SETTING, sizes=(1.0,)), Step("β = 0", {"beta": 0.0}))
    assert found.four.best.reward == pytest.approx(-600 * found.four.best.total_delay_s)
    assert found.six.best.total_delay_s <= found.four.best.total_delay_s


def test_page_and_tables() -> None:
    chosen, other = candidate(10.2), candidate(30.0, setting=replace(SETTING, start_ghz=8.0))
    found = Calibration(
        candidates=[other, chosen],
        chosen=chosen,
        trends=[good_trends()],
        moved=[Moved("none", chosen.four, chosen.six)],
        episodes=[Episode(0, -17_800.0, -20_000.0, 10.0)],
        excess_percent=0.5,
    )
    text = page(found)
    assert "Of 2 settings 1 meet both levels" in text
    assert "**26 cycles a FLOP, τ = 4 s, servers rising, 7 to 8.6 GHz**" in text
    assert "costs 0.5% more" in " ".join(text.split())
    assert "| 0 | -17,800 | -20,000 | 10.0 |" in text
    assert search_table(found)["meets_levels"] == [False, True]
    rows = trend_table(found)
    assert len(rows["value"]) == sum(map(len, SWEEPS.values()))
    assert rows["total_delay_s"][:5] == [95, 94, 94, 93, 92]
