"""The report of a run, from its trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from mecsim.report.decisions import decisions
from mecsim.report.delays import delays
from mecsim.report.network_map import network_map
from mecsim.report.page import Cell, Listing, Page, Section, Table, Text, quantity
from mecsim.report.queues import queues
from mecsim.report.recording import Recording
from mecsim.report.timeline import timeline
from mecsim.simulation.metrics import METRICS, PER_TASK, RunSummary, Statistics
from mecsim.trace import TraceFile

MOST_RESOURCES: Final = 200


def run_page(path: Path, window: tuple[float, float] | None) -> Page:
    """Return the report of a run.

    Args:
        path: The trace.
        window: Begin and end of the timeline in seconds; None to choose a busy one.

    Raises:
        TraceError: The trace cannot be read.
    """
    with TraceFile(path) as trace:
        recording = Recording(trace)
        return Page(
            title=recording.summary.title.rpartition(" (")[0],
            subtitle=f"{recording.summary.outcome}.",
            sections=[
                Section("summary", "Summary", _summary(recording)),
                Section("network", "Network", [*network_map(recording), _resources(recording)]),
                Section("queueing", "Queues", queues(recording)),
                Section("delay", "Delays", delays(recording)),
                Section("services", "Timeline", timeline(recording, window)),
                Section("placement", "Decisions", decisions(recording)),
                Section("provenance", "What was run", _provenance(recording)),
            ],
            facts={"summary": _facts(recording.summary), "complete": trace.complete},
        )


def _facts(summary: RunSummary) -> dict[str, Any]:
    """Return the document of the run, with the busiest resources only: a city has 300,000."""
    document = summary.as_json()
    return document | {"resources": document["resources"][:MOST_RESOURCES]}


def _summary(recording: Recording) -> list[Table | Text]:
    summary, trace = recording.summary, recording.trace
    alerts = []
    if not trace.complete:
        done, slots = len(recording.slot_s), trace.scenario.slots
        alerts.append(
            f"The run was cut short: the trace has {done:,} of {slots:,} slots. All numbers are of "
            "the recorded part."
        )
    if summary.overloaded:
        alerts.append(
            "The network is overloaded: tasks in flight grow over the slots, so delays depend on "
            f"the number of slots. Most tasks wait at {', '.join(summary.longest_queues())}."
        )
    counting = summary.counting
    counted = [] if counting is None else [Text(f"{counting[0].upper()}{counting[1:]}.")]
    alerted = [Text(each, alert=True) for each in alerts]
    classes = [_by_class(summary)] if summary.classes else []
    return [*alerted, *counted, _per_task(summary), _totals(summary), *classes]


def _per_task(summary: RunSummary) -> Table:
    names = list(Statistics.model_fields)
    rows: list[list[Cell | str]] = []
    for key in PER_TASK:
        found = getattr(summary, key)
        label = METRICS[key].axis.replace(" per task", "")
        rows.append([label, *(quantity(getattr(found, name)) for name in names)])
    return Table("Completed tasks", ["per task", *names], rows, name="per-task")


def _by_class(summary: RunSummary) -> Table:
    head, *texts = summary.of_classes()
    rows: list[list[Cell | str]] = [list(row) for row in texts]
    return Table("Classes of tasks", head, rows, name="classes")


def _past_deadlines(summary: RunSummary) -> dict[str, float]:
    """Return the share of tasks past their deadline, where tasks have one."""
    share = summary.deadline_miss_ratio
    return {} if share is None else {"tasks past their deadline (%)": 100 * share}


def _totals(summary: RunSummary) -> Table:
    counts: dict[str, Any] = {
        "tasks released": summary.tasks,
        "completed": summary.completed,
        "failed": summary.failed,
        "deadline misses (blocks)": summary.late_blocks,
        "deadline-miss ratio (%)": None if summary.miss_ratio is None else 100 * summary.miss_ratio,
        **_past_deadlines(summary),
        "reward": summary.reward,
        "events": summary.events,
        "last task done after the last slot (s)": summary.drained_s,
    }
    rows: list[list[Cell | str]] = [
        [name, quantity(value, f"{value:,}" if isinstance(value, int) else None)]
        for name, value in counts.items()
    ]
    return Table("The run", ["number", "value"], rows, name="totals", wide=False)


def _resources(recording: Recording) -> Table:
    every = recording.summary.resources
    rows: list[list[Cell | str]] = [
        [
            each.name,
            quantity(each.utilization, f"{each.utilization:.1%}"),
            quantity(each.mean_queue),
            quantity(each.mean_wait_s),
        ]
        for each in every[:MOST_RESOURCES]
    ]
    cut = len(every) > MOST_RESOURCES
    of_all = f", the {MOST_RESOURCES} busiest of {len(every):,}" if cut else ""
    head = ["resource", "utilization", "mean queue", "mean wait (s)"]
    caption = f"Resources that served, the busiest first{of_all}"
    return Table(caption, head, rows, name="resources", filterable=True)


def _provenance(recording: Recording) -> list[Table | Listing]:
    trace, made_by = recording.trace, recording.trace.made_by
    attributes = trace.attributes()
    facts: dict[str, Any] = {
        "trace": trace.path.name,
        "scenario": trace.scenario_label,
        "scheduler": made_by.scheduler,
        "options": json.dumps(dict(made_by.scheduler_options)),
        "seed": made_by.seed,
        "kernel": made_by.kernel,
        "mecsim": attributes.get("mecsim_version", ""),
        "created (UTC)": attributes.get("created_utc", ""),
        "scenario (SHA-256)": attributes.get("scenario_sha256", ""),
    }
    rows = [[name, str(value)] for name, value in facts.items()]
    scenario = json.dumps(json.loads(attributes["scenario"]), indent=1, ensure_ascii=False)
    return [
        Table("Origin of the trace", ["", "value"], rows, texts=2, name="origin"),
        Listing("Scenario", scenario),
    ]
