"""The page of an evaluation in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mecsim.study.report_tables import as_markdown
from mecsim.support.text import number
from mecsim.testbed.evaluation.held_out import HeldOut
from mecsim.testbed.evaluation.ranking import MEASURED, Ranked
from mecsim.testbed.evaluation.settings import Evaluation
from mecsim.testbed.prediction import PARTS
from mecsim.testbed.scores import Score

_MS: Final = 1000.0


def page(
    evaluation: Evaluation,
    found: Sequence[HeldOut],
    ranking: Ranked | None,
    failed: Mapping[str, str],
    trial: str,
) -> str:
    """Return the page.

    Args:
        evaluation: What was planned.
        found: The runs that were measured.
        ranking: The ranking of schedulers, if there is one.
        failed: Why runs have no result, by name.
        trial: A note on a trial with fewer slots; empty otherwise.
    """
    parts = [_head(evaluation, found), f"**{trial}**\n" if trial else ""]
    if found:
        parts += ["## Predictions of held-out tasks\n", _runs_table(found), _totals_table(found)]
        parts += ["![mean and p95](predicted.png)\n", "![distributions](distributions.png)\n"]
        parts += ["## Parts of the total\n", _parts_table(found), "## Facts of the runs\n"]
        parts.append(_facts_table(found))
    if ranking is not None:
        parts += ["## Ranking of schedulers\n", *_ranking(ranking)]
    if failed:
        lines = "".join(f"- {name}: {reason}\n" for name, reason in failed.items())
        parts.append(f"## Without a result\n\n{lines}")
    return "\n".join(part for part in parts if part)


def _head(evaluation: Evaluation, found: Sequence[HeldOut]) -> str:
    machine = found[0].facts.get("machine", {}) if found else {}
    facts = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "hosts")
    where = f"Machine: {facts}.\n" if facts else ""
    return f"""# The simulator against the testbed

Each run of `runs.yaml` was executed on real processes: blocks computed by PyTorch, feature maps
sent over sockets. The scenario was calibrated on the first {evaluation.first:.0%} of its tasks. The
others were predicted by simulation, on the scenario as planned and as calibrated: tasks, rates and
decisions are the recorded ones, all times are predicted. `make testbed-results` writes this page;
`runs.csv`, `utilization.csv` and `ranking.csv` hold all numbers.
{where}"""


def _runs_table(found: Sequence[HeldOut]) -> str:
    """Return what each run was, and how busy its busiest resource of each kind was."""
    head = ["run", "scheduler", "nodes, links", *PARTS, "tasks scored"]
    rows = [
        [
            f"{each.run.name}: {each.run.about}",
            each.run.scheduler,
            f"{each.run.nodes}, {each.run.links}",
            *(_share(each.busiest(kind)) for kind in PARTS),
            f"{each.any.scored:,}",
        ]
        for each in found
    ]
    note = "Columns of kinds: measured utilization of the busiest resource of the kind.\n"
    return f"{note}\n{as_markdown(head, rows, text=3)}"


def _totals_table(found: Sequence[HeldOut]) -> str:
    head = ["run", "scenario", "mean measured (ms)", "predicted (ms)", "error (%)", "95% interval",
            "p95 measured (ms)", "predicted (ms)", "error (%)", "MAPE of tasks (%)"]  # fmt: skip
    rows = [
        [each.run.name, kind, *_cells(prediction.total)]
        for each in found
        for kind, prediction in each.predictions.items()
    ]
    return as_markdown(head, rows, text=2)


def _cells(score: Score) -> list[str]:
    ends = score.mean_error_ci95
    return [
        _ms(score.mean.measured),
        _ms(score.mean.predicted),
        _percent(score.mean.error_percent),
        "–" if ends is None else f"{ends[0]:+.1f} to {ends[1]:+.1f}",
        _ms(score.p95.measured),
        _ms(score.p95.predicted),
        _percent(score.p95.error_percent),
        "–" if score.mape_percent is None else f"{score.mape_percent:.1f}",
    ]


def _parts_table(found: Sequence[HeldOut]) -> str:
    """Return the means by part, because errors of parts may cancel in the total."""
    head = ["run", "scenario", "part", "mean measured (ms)", "predicted (ms)", "error (%)"]
    head += ["waiting measured (ms)", "predicted (ms)", "service measured (ms)", "predicted (ms)"]
    rows = [
        [
            each.run.name,
            kind,
            part.name,
            _ms(part.mean.measured),
            _ms(part.mean.predicted),
            _percent(part.mean.error_percent),
            *(_ms(value) for value in (part.wait.measured, part.wait.predicted)),
            *(_ms(value) for value in (part.service.measured, part.service.predicted)),
        ]
        for each in found
        for kind, prediction in each.predictions.items()
        for part in prediction.parts
    ]
    return as_markdown(head, rows, text=3)


def _facts_table(found: Sequence[HeldOut]) -> str:
    """Return what the traces record about the testbed, where it is one number or word."""
    names = list(dict.fromkeys(name for each in found for name in _simple(each.facts)))
    rows = [
        [each.run.name, *(_text(_simple(each.facts).get(name)) for name in names)] for each in found
    ]
    return as_markdown(["run", *names], rows)


def _simple(facts: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the numbers of facts with the names of the mappings that hold them."""
    found = {}
    for name, value in facts.items():
        if isinstance(value, int | float | str | bool):
            found[above + name] = value
        elif isinstance(value, Mapping) and name not in ("machine", "block_ms", "clocks", "hosts"):
            found |= _simple(value, f"{above}{name}.")
    return found


def _ranking(found: Ranked) -> Iterator[str]:
    order = found.order(MEASURED)
    simulated = [source for source in found.delays if source != MEASURED]
    head = ["scheduler", *(f"{source} (ms)" for source in found.delays)]
    head += [f"error, {source} (%)" for source in simulated]
    rows = [
        [
            name,
            *(_interval(found, source, name) for source in found.delays),
            *(f"{found.error_percent(source, name):+.1f}" for source in simulated),
        ]
        for name in order
    ]
    seeds = f"{len(found.seeds)} seeds"
    yield (
        f"Mean total delay over {seeds} with 95% intervals. Simulated: on the scenario as planned, "
        "with the same seeds; schedulers decide again. Predicted: with the measured decisions, on "
        "a scenario that was calibrated on another run.\n"
    )
    yield as_markdown(head, rows)
    for source in simulated:
        correlation = f"Kendall's rank correlation {found.kendall(source):.2f}"
        yield f"- {source}: {correlation}; {_pairs(found, source)}"
    yield "\n![ranking](ranking.png)\n"


def _pairs(found: Ranked, source: str) -> str:
    """Return the pairs of schedulers that a simulation has in the other order."""
    inversions = found.inversions(source)
    if not inversions:
        return "no pair of schedulers is in another order than measured."
    texts = []
    for one, other, more in inversions:
        ends = "" if more.low is None or more.high is None else (
            f", 95% interval {_ms(more.low)} to {_ms(more.high)}"
        )  # fmt: skip
        texts.append(f"{one} before {other} (measured {_ms(more.mean)} ms apart{ends})")
    return f"in another order than measured: {'; '.join(texts)}."


def _interval(found: Ranked, source: str, scheduler: str) -> str:
    mean, low, high = found.estimate(source, scheduler)
    half = "" if low is None or high is None else f" ± {number(_MS * (high - low) / 2)}"
    return f"{_ms(mean)}{half}"


def _ms(seconds: float) -> str:
    return number(_MS * seconds)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _text(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(float(value))
    return "–" if value is None else str(value)
