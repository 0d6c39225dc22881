"""The page and the tables of a calibration."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mecsim.paper.calibration import criterion
from mecsim.paper.calibration.criterion import Candidate
from mecsim.paper.calibration.levels import Levels
from mecsim.paper.calibration.sensitivity import BUDGET, Episode, Moved
from mecsim.paper.calibration.settings import STARTS_GHZ, STEPS_GHZ, TOLERATED_S
from mecsim.paper.calibration.trends import SWEEPS, TESTS, Trends, delays, energies, gaps
from mecsim.study.report_tables import Table, as_markdown

FINALISTS: Final = 6
"""Settings whose trends the page shows, of those nearest to the targets."""


@dataclass(frozen=True)
class Calibration:
    """All that a calibration found."""

    candidates: Sequence[Candidate]
    """All settings of the grid, with fitted cycles a FLOP."""
    chosen: Candidate
    trends: Sequence[Trends]
    """Of the candidates that meet the levels, in their order."""
    moved: Sequence[Moved]
    episodes: Sequence[Episode]
    excess_percent: float
    """How much more the placement found with six servers costs than the best of all, per cent."""

    @property
    def meeting(self) -> list[tuple[Candidate, Trends]]:
        """The candidates that meet the levels, and their trends."""
        meet = [each for each in self.candidates if each.meets_levels]
        return list(zip(meet, self.trends, strict=True))

    @property
    def with_devices(self) -> list[tuple[Candidate, Trends]]:
        """Those of them whose best placements leave work to devices."""
        return [pair for pair in self.meeting if pair[0].uses_devices]


def search_table(found: Calibration) -> Table:
    """Return a row for each setting of the grid."""
    rows: list[dict[str, Any]] = [
        {
            "pattern": each.setting.pattern,
            "start_ghz": each.setting.start_ghz,
            "step_ghz": each.setting.step_ghz,
            "tolerated_s": each.setting.tolerated_s,
            "cycles_per_flop": each.setting.cycles_per_flop,
            "reward": each.four.best.reward,
            "greedy_reward": each.four.greedy.reward,
            "gap_percent_four": each.four.gap_percent,
            "gap_percent_six": each.six.gap_percent,
            "total_delay_s_four": each.four.best.total_delay_s,
            "total_delay_s_six": each.six.best.total_delay_s,
            "local_delay_s_four": each.four.best.local_delay_s,
            "local_delay_s_six": each.six.best.local_delay_s,
            "placement_four": _text(each.four),
            "placement_six": _text(each.six),
            "distance": each.distance,
            "meets_levels": each.meets_levels,
            "uses_devices": each.uses_devices,
        }
        for each in found.candidates
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def trend_table(found: Calibration) -> Table:
    """Return a row for each point of the sweeps of each setting that meets the levels."""
    rows: list[dict[str, Any]] = [
        {
            "pattern": candidate.setting.pattern,
            "start_ghz": candidate.setting.start_ghz,
            "step_ghz": candidate.setting.step_ghz,
            "tolerated_s": candidate.setting.tolerated_s,
            "cycles_per_flop": candidate.setting.cycles_per_flop,
            "sweep": sweep,
            "value": value,
            **vars(point.best),
            "greedy_total_delay_s": point.greedy.total_delay_s,
            "greedy_energy_J": point.greedy.energy_J,
            "placement": _text(point),
        }
        for candidate, along in found.meeting
        for sweep, values in SWEEPS.items()
        for value, point in zip(values, getattr(along, sweep), strict=True)
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _text(levels: Levels) -> str:
    return " ".join(map(str, levels.placement))


def page(found: Calibration) -> str:
    """Return the page in Markdown."""
    return "\n".join(
        wrapped(part)
        for part in (
            "# Calibration of the default scenario\n",
            "Made by `make calibration`. [Every setting of the search](calibration.csv), and",
            "[the sweeps of those that meet the levels](calibration_trends.csv).\n",
            _criterion(),
            _result(found),
            _sensitivity(found),
            _tests(found),
            _finalists(found),
        )
    )


def wrapped(text: str) -> str:
    r"""Break the lines of paragraphs; lists, tables and headings stay as they are.

    Example:
        >>> wrapped("a\nb\n\n| c |\n| d |\n")
        'a b\n\n| c |\n| d |\n'
    """
    done = []
    for paragraph in text.split("\n\n"):
        prose = not paragraph.lstrip().startswith(("|", "#", "-", "**"))
        end = "\n" if paragraph.endswith("\n") else ""
        done.append(textwrap.fill(paragraph, 110) + end if prose and paragraph else paragraph)
    return "\n\n".join(done)


def _criterion() -> str:
    starts = f"{STARTS_GHZ[0]:g} to {STARTS_GHZ[-1]:g} GHz in steps of 0.5"
    steps = ", ".join(f"{each:g}" for each in STEPS_GHZ)
    values = [
        ["slowest server", starts],
        [
            "capacities of the nine servers, of which the first N are used",
            f"alike; rising, falling or alternating in steps of {steps} GHz",
        ],
        ["cycles a FLOP", "the integer that brings the reward nearest to its target"],
    ]
    return f"""## Criterion

The paper gives the reward of MTL-A3C with four servers, {criterion.REWARD:,.0f} for 600 slots,
those of A3C and DQN (-18,490 and -18,560), and by how much the total delay of MTL-A3C is below
greedy's with six: {criterion.GAP_PERCENT}%. No other number of the paper takes part in the search.

The best placement found by search stands for MTL-A3C. A trained policy misses it: in trials with
the paper's settings its cost was 1 to 7% above. The calibration takes {criterion.MARGIN:.0%} for
reward and delay alike, so that the targets are

- a reward of {criterion.TARGET_REWARD:,.0f}, within {criterion.REWARD_TOLERANCE:.0%},
- a gap to greedy of {criterion.TARGET_GAP:.1f}% with six servers, within
  {criterion.GAP_TOLERANCE:g} point.

The rewards of A3C and DQN are then 4 to 5% below the best placement's, inside the same range.

## Search space

{as_markdown(["number", "values"], values, text=2)}
Fixed: VGG16 cut into its six stages; τ = {TOLERATED_S:g} s, the middle of the paper's range of
1 to 7 s (the sensitivities show that it moves the reward, not the gap); 30 devices of
1 GHz, as only ratios of capacities and cycles a FLOP
matter to delays; β = 1; size factors uniform in [0.8, 1.2] for each slot, represented by
the midpoints of three equal parts; radio rates from the channel model; slots long enough to drain.

Greedy considers all places. The paper says that "each DNN block selects the ES with a lower load",
but compares local delays with greedy's in Figs. 9(c) and 12(c), and over servers only greedy has
none. The last row of the sensitivities shows the other reading.
"""


def _result(found: Calibration) -> str:
    chosen, pairs = found.chosen, found.meeting
    reward, gap = chosen.implied_margins
    episodes = as_markdown(
        ["seed", "reward of lookahead", "of greedy", "gap with six servers (%)"],
        [
            [str(each.seed), f"{each.reward:,.0f}", f"{each.greedy_reward:,.0f}",
             f"{each.gap_percent:.1f}"]
            for each in found.episodes
        ],
    )  # fmt: skip
    capacities = ", ".join(f"{each:g}" for each in chosen.setting.server_ghz)
    levels = (
        f"Its reward is {chosen.four.best.reward:,.0f} (greedy: "
        f"{chosen.four.greedy.reward:,.0f}), and its gap with six servers "
        f"{chosen.six.gap_percent:.1f}%."
    )
    return f"""## Result

Of {len(found.candidates)} settings {len(pairs)} meet both levels. In {len(found.with_devices)}
of these the best placements with four and with six servers leave work to devices. The paper
compares local delays in per cent at both numbers (Fig. 8(c)), so they are not zero there.

The choice is made among settings with a spread of capacities ("heterogeneous resources of ESs") and
work at devices. Of these the nearest to the targets is

**{chosen.setting}** ({capacities} GHz).

{levels} With these the published reward is {100 * reward:.1f}% and the published delay
{100 * gap:.1f}% above the best placement's. With four servers the best of
all {5**6:,} placements was taken. With six the placement found costs
{found.excess_percent:.2g}% more than the best of all {7**6:,}.

Episodes of 600 slots with `lookahead` (budget {BUDGET}):

{episodes}"""


def _sensitivity(found: Calibration) -> str:
    table = as_markdown(
        ["moved", "reward", "reward of greedy", "gap, N = 4 (%)", "gap, N = 6 (%)",
         "total delay, N = 4 (s)", "energy, N = 4 (J)"],
        [
            [
                each.text,
                f"{each.four.best.reward:,.0f}",
                f"{each.four.greedy.reward:,.0f}",
                f"{each.four.gap_percent:.1f}",
                f"{each.six.gap_percent:.1f}",
                f"{each.four.best.total_delay_s:.2f}",
                f"{each.four.best.energy_J:.0f}",
            ]
            for each in found.moved
        ],
    )  # fmt: skip
    return f"""## Sensitivity

Each number of the chosen setting moved alone, nothing fitted again:

{table}"""


def _tests(found: Calibration) -> str:
    chosen = next(along for each, along in found.meeting if each is found.chosen)
    rows = [
        [
            name,
            "yes" if holds(chosen) else "no",
            f"{sum(holds(along) for _, along in found.with_devices)}",
            f"{sum(holds(along) for _, along in found.meeting)}",
        ]
        for name, holds in TESTS.items()
    ]
    head = [
        "trend",
        "chosen setting",
        f"of the {len(found.with_devices)} with work at devices",
        f"of all {len(found.meeting)} that meet the levels",
    ]
    return f"""## Trends

None of these was used in the search. They are those of the best placement for slots of mean size,
exact with six blocks and up to four servers, found by local search otherwise. What trained policies
do is another matter.

{as_markdown(head, rows)}"""


def _finalists(found: Calibration) -> str:
    nearest = sorted(found.with_devices, key=lambda pair: pair[0].distance)[:FINALISTS]
    if not any(each is found.chosen for each, _ in nearest):
        nearest += [pair for pair in found.meeting if pair[0] is found.chosen]
    values = {name: ", ".join(f"{each:g}" for each in points) for name, points in SWEEPS.items()}

    def numbers(each: Sequence[float], digits: int) -> str:
        return " ".join(f"{value:.{digits}f}" for value in each)

    table = as_markdown(
        ["setting", "reward", "gap, N = 6 (%)", f"total delay (s), N = {values['edge_servers']}",
         "energy (J)", f"gap (%), λ = {values['rate']}", f"total delay (s), M = {values['blocks']}",
         "energy (J)", f"total delay (s), τ = {values['tolerated_s']}"],
        [
            [
                f"**{each.setting}**" if each is found.chosen else str(each.setting),
                f"{each.four.best.reward:,.0f}",
                f"{each.six.gap_percent:.1f}",
                numbers(delays(along.edge_servers), 1),
                numbers(energies(along.edge_servers), 0),
                numbers(gaps(along.rate), 1),
                numbers(delays(along.blocks), 1),
                numbers(energies(along.blocks), 0),
                numbers(delays(along.tolerated_s), 1),
            ]
            for each, along in nearest
        ],
    )  # fmt: skip
    return f"""## The nearest settings

With work at devices, nearest to the targets first; the chosen one in bold.

{table}"""
