"""Measure, predict and write: ``python -m mecsim.testbed.evaluation``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mecsim.errors import InputError, Interrupted, MecsimError
from mecsim.scenario.schema import Scenario
from mecsim.study.plots import need_matplotlib
from mecsim.study.report_tables import Table, as_csv
from mecsim.support.files import write_whole
from mecsim.support.text import did_you_mean
from mecsim.testbed.evaluation.figures import draw_figures
from mecsim.testbed.evaluation.held_out import HeldOut, held_out, score_table, utilization_table
from mecsim.testbed.evaluation.measuring import Traces, calibrated
from mecsim.testbed.evaluation.page import page
from mecsim.testbed.evaluation.ranking import RANKING, Ranked, ranked
from mecsim.testbed.evaluation.settings import Evaluation, read_evaluation

RUNS: Final = Path("results/testbed/runs.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate; return the exit code."""
    try:
        return evaluate(_parser().parse_args(arguments))
    except Interrupted as error:
        _report(f"{error}; finished runs are kept, the same command measures the others")
        return 130
    except KeyboardInterrupt:
        _report("stopped; finished runs are kept, the same command measures the others")
        return 130
    except MecsimError as error:
        _report(str(error))
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mecsim.testbed.evaluation",
        description="Measure runs on the testbed, predict them, and write tables and figures. "
        "Finished runs are kept.",
    )
    parser.add_argument("runs", nargs="?", type=Path, default=RUNS, help="a file of runs (YAML)")
    parser.add_argument("--out", type=Path, help="folder for results; by default that of the file")
    of_only = "measure only these runs, such as ranking; use all traces"
    of_again = "measure these runs again, such as ranking or ranking-greedy-1"
    parser.add_argument("--only", nargs="+", metavar="NAME", help=of_only)
    parser.add_argument("--again", nargs="+", default=[], metavar="NAME", help=of_again)
    parser.add_argument("--slots", type=int, metavar="N", help="a trial: slots of every run")
    parser.add_argument("--seeds", type=int, metavar="N", help="a trial: seeds of the ranking")
    parser.add_argument("--list", action="store_true", help="print the runs and their times")
    return parser


def evaluate(given: argparse.Namespace) -> int:
    """Measure what is missing, and write everything. Returns 1 if a run failed, else 0."""
    path: Path = given.runs
    folder, evaluation = path.parent, read_evaluation(path)
    out: Path = given.out or folder
    trial = _trial(given)
    if trial and out.resolve() == folder.resolve():
        raise InputError("--slots and --seeds: are for a trial, which needs --out FOLDER")
    if given.seeds is not None and evaluation.ranking is not None:
        seeds = evaluation.ranking.seeds[: given.seeds]
        shorter = evaluation.ranking.model_copy(update={"seeds": seeds})
        evaluation = evaluation.model_copy(update={"ranking": shorter})
    _check_names(evaluation, [*(given.only or ()), *given.again])
    _report(_plan(evaluation, folder, given.slots))
    if given.list:
        return 0
    need_matplotlib()
    began = time.monotonic()
    traces = Traces(out / "traces", given.again, _report, given.only)
    found = list(held_out(evaluation, folder, traces, given.slots))
    ranking = _ranked(evaluation, folder, traces, given.slots)
    _write(out, evaluation, found, ranking, traces, trial)
    _report(f"done in {time.monotonic() - began:.0f} s: {out / 'README.md'}")
    return 1 if traces.failed else 0


def _trial(given: argparse.Namespace) -> str:
    """Return a note on a trial; empty for the whole evaluation."""
    for name, value, least in (("--slots", given.slots, 1), ("--seeds", given.seeds, 2)):
        if value is not None and value < least:
            raise InputError(f"{name}: {value}; allowed: at least {least}")
    shorter = [f"{name} {value}" for name, value in vars(given).items()
               if name in ("slots", "seeds") and value is not None]  # fmt: skip
    return f"A trial with {' and '.join(shorter)}." if shorter else ""


def _check_names(evaluation: Evaluation, names: Sequence[str]) -> None:
    """Raise ``InputError`` for a name of neither a run nor a group of runs."""
    known = [each.name for each in evaluation.runs]
    ranking = evaluation.ranking
    if ranking is not None:
        known.append(RANKING)
        known += [
            f"{RANKING}-{name}-{seed}" for name in ranking.schedulers for seed in ranking.seeds
        ]
    for name in names:
        if name not in known:
            allowed = f"{did_you_mean(name, known)}allowed: {', '.join(known)}"
            raise InputError(f"--only and --again: {name!r} is not known; {allowed}")


def _plan(evaluation: Evaluation, folder: Path, slots: int | None) -> str:
    """Return the runs and how long all of them take without their starts."""
    seconds = {
        each.name: each.load(folder, slots).length_s * each.stretch for each in evaluation.runs
    }
    ranking = evaluation.ranking
    if ranking is not None:
        each_s = ranking.load(folder, slots).length_s * ranking.stretch
        seconds[RANKING] = each_s * len(ranking.schedulers) * len(ranking.seeds)
    listed = ", ".join(f"{name} {each:.0f} s" for name, each in seconds.items())
    total = sum(seconds.values()) / 60
    return f"measured time of all runs, {total:.1f} min and some seconds for each start: {listed}"


def _ranked(
    evaluation: Evaluation, folder: Path, traces: Traces, slots: int | None
) -> Ranked | None:
    """Return the ranking, also simulated on a calibrated scenario if the trace of one exists."""
    ranking = evaluation.ranking
    if ranking is None:
        return None
    fitted: Scenario | None = None
    path = traces.folder / f"{ranking.calibrated_on}.h5"
    if ranking.calibrated_on is not None and path.exists():
        try:
            fitted, _ = calibrated(path, evaluation.first)
        except MecsimError as error:
            traces.fail(f"{RANKING}, calibrated", error)
    return ranked(ranking, folder, traces, fitted, slots)


def _write(
    out: Path,
    evaluation: Evaluation,
    found: Sequence[HeldOut],
    ranking: Ranked | None,
    traces: Traces,
    trial: str,
) -> None:
    tables: dict[str, Table] = {}
    if found:
        tables = {"runs": score_table(found), "utilization": utilization_table(found)}
    if ranking is not None:
        tables["ranking"] = ranking.table()
    for name, table in tables.items():
        write_whole(out / f"{name}.csv", as_csv(table))
    draw_figures(out, found, ranking)
    write_whole(out / "README.md", page(evaluation, found, ranking, traces.failed, trial))


def _report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
