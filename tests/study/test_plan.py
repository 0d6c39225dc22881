"""Studies: what is compared, what a summary says of it, the files and the figures."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import h5py
import pytest

from mecsim.errors import InputError
from mecsim.learning.options import resolve_settings
from mecsim.simulation.metrics import QUANTILES
from mecsim.study import figures, report_tables
from mecsim.study import plan as plan_module
from mecsim.study import summary as summary_module
from mecsim.study.competitors import Competitor
from mecsim.study.job_queue import ResultStore, run_batch
from mecsim.study.jobs import Training
from mecsim.study.plan import Study
from mecsim.study.run import StudyRequest, make_study
from mecsim.study.summary import Entry, Row
from mecsim.study.sweep import SETTING, grid, parse_sweep
from mecsim.support.text import number
from tests.helpers import toy_learner
from tests.helpers.batches import SCENARIO, Inline, in_this_process
from tests.helpers.cli import answer, mecsim

ROOT = Path(__file__).parents[2]
TAILS = ("total_delay_p50_s", "total_delay_p95_s", "total_delay_p99_s", "miss_ratio")
TOY = Competitor("toy", "tests.helpers.toy_learner:Toy")


def asked(*competitors: Competitor, **more: Any) -> Study:
    named = competitors or (Competitor("greedy", "greedy"), Competitor("rpdi", "rpdi"))
    given = {"seeds": range(2), "overrides": ("slots=3",)} | more
    return Study(scenarios={"default": SCENARIO}, competitors=named, **given)


def row(scheduler: str, seed: int, delay: float | None, **more: Any) -> Row:
    none = {"mean": None}
    document = {
        "scenario": "s", "sweep": {}, "scheduler": scheduler, "seed": seed, "training_seed": None,
        "total_delay_s": {"mean": delay}, "edge_delay_s": none, "local_delay_s": none,
        "energy_J": none, "reward": -10.0, "late_blocks": 0, "failed": 0,
    }  # fmt: skip
    return cast(Row, document | more)


def of(summary: list[Entry], scheduler: str, metric: str, servers: int | None = None) -> Entry:
    (found,) = [
        e
        for e in summary
        if (e["scheduler"], e["metric"]) == (scheduler, metric)
        and e["sweep"].get("edge_servers") == servers
    ]
    return found


@pytest.mark.parametrize(
    "sweep",
    [
        "edge_servers=2,9",
        "arrivals.rate=30,110",
        "dnn.max_tolerated_delay=1 s,7 s",
        "radio.rate=0.8 MB/s,2 MB/s",
        "dnn.model=nin,alexnet,vgg16,resnet32",
        "dnn.blocks=3,18",
    ],
)
def test_sweeps_of_the_paper(sweep: str) -> None:
    points = grid(parse_sweep([sweep]))
    trials = plan_module.plan(asked(points=points, overrides=("slots=2", "dnn.cut=balanced")))
    assert len({trial.job.scenario for trial in trials}) == len(points)


def test_seeds_and_order_of_plan() -> None:
    trials = plan_module.plan(asked(points=grid({"edge_servers": [2, 3]})))
    met = [
        (c.point["edge_servers"], c.competitor and c.competitor.label, c.job.seed) for c in trials
    ]
    names = ("greedy", "rpdi")
    assert met == [(n, name, seed) for n in (2, 3) for name in names for seed in (0, 1)]
    fewer = plan_module.plan(
        asked(Competitor("greedy", "greedy"), Competitor("rpdi", "rpdi", seeds=1))
    )
    assert len(fewer) == 3


def test_trainings_of_plan() -> None:
    points = grid({"edge_servers": [2, 3]})
    plan = plan_module.plan(
        asked(
            Competitor("greedy", "greedy"),
            TOY,
            points=points,
            training=Training(5),
            training_seeds=range(3),
        )
    )
    learning = [trial for trial in plan if trial.training_seed is not None]
    assert [trial.job.kind for trial in learning] == 2 * 3 * ["train", "run", "run"]
    assert len({trial.job.needs for trial in learning if trial.job.needs}) == 2 * 3
    given = Competitor("toy", TOY.scheduler, {"policy": "here.safetensors"})
    assert all(trial.job.needs is None for trial in plan_module.plan(asked(given, baseline="toy")))


def test_what_counts_is_no_matter_of_a_training() -> None:
    plan = plan_module.plan(
        asked(TOY, points=grid({"measurement.warm_up": [0, 1, "1500 ms"]}),
              baseline="toy", training=Training(5))
    )  # fmt: skip
    jobs = {kind: {t.job.key for t in plan if t.job.kind == kind} for kind in ("train", "run")}
    assert (len(jobs["train"]), len(jobs["run"])) == (1, 3 * 2)


def test_numbers_that_a_stored_row_lacks() -> None:
    names = ("total_delay_s", "total_delay_p99_s", "miss_ratio")
    assert [summary_module.metric(row("a", 0, 2.0), name) for name in names] == [2.0, None, None]


def test_episodes_and_trainings_of_a_competitor() -> None:
    """Two of the three trainings of the study, of 2 episodes in place of 5."""
    fewer = replace(TOY, label="fewer", episodes=2, trainings=2)
    more = replace(TOY, label="more", trainings=9)  # no more than those of the study
    study = asked(TOY, fewer, more, training=Training(5), training_seeds=range(3), baseline="toy")
    trials = plan_module.plan(study)
    trainings = {
        label: [
            (trial.training_seed, trial.job.training)
            for trial in trials
            if trial.job.kind == "train" and trial.competitor and trial.competitor.label == label
        ]
        for label in ("toy", "fewer", "more")
    }
    assert trainings["toy"] == trainings["more"] == [(seed, Training(5)) for seed in range(3)]
    assert trainings["fewer"] == [(seed, Training(2)) for seed in range(2)]
    runs = [(t.competitor.label, t.training_seed) for t in trials if t.competitor and t.job.needs]
    assert runs.count(("fewer", 0)) == runs.count(("fewer", 1)) == len(study.seeds)
    assert ("fewer", 2) not in runs


def test_options_of_training_and_runs() -> None:
    wishing = Competitor("toy", TOY.scheduler, {"wish": 2}, workers=4)
    plan = plan_module.plan(asked(wishing, baseline="toy", training=Training(5)))
    assert [(trial.job.kind, trial.job.options) for trial in plan] == [
        ("train", '{"episode_slots": 0, "wish": 2}'), ("run", "{}"), ("run", "{}"),
    ]  # fmt: skip
    assert plan[0].job.training == Training(5, workers=4)
    wrong = Competitor("toy", TOY.scheduler, {"wishes": 2})
    with pytest.raises(InputError, match="did you mean 'wish'"):
        plan_module.plan(asked(wrong, baseline="toy", training=Training(5)))


@pytest.mark.parametrize(
    ("competitors", "more", "reported"),
    [
        ((TOY,), {"baseline": "toy"}, "--episodes"),
        (
            (),
            {"baseline": "apdi"},
            "--baseline: 'apdi' is not compared; expected one of greedy, rpdi",
        ),
        ((Competitor("greedy", "greedy", {"x": 1}),), {}, "has no option 'x'"),
        ((Competitor("greedy", "greedi"),), {}, "did you mean 'greedy'"),
        ((Competitor("greedy", "greedy"),) * 2, {}, "'greedy' is listed twice"),
        ((Competitor("greedy", "greedy", episodes=5),), {}, "episodes: 'greedy' is not trained"),
        ((Competitor("greedy", "greedy", trainings=2),), {}, "trainings: 'greedy' is not trained"),
        ((), {"points": [{"edge_servers": 0}]}, "edge_servers"),
        ((), {"points": [{"dnn.blocks": 99}]}, "99"),
    ],
)
def test_invalid_study(
    competitors: tuple[Competitor, ...], more: dict[str, Any], reported: str
) -> None:
    overrides = ("slots=3", "dnn.cut=balanced")
    with pytest.raises(InputError, match=reported):
        plan_module.plan(asked(*competitors, overrides=overrides, **more))


def test_summary_by_hand() -> None:
    rows = [row("greedy", 0, 2.0), row("greedy", 1, 4.0), row("lookahead", 0, 1.0)]
    rows += [row("lookahead", 1, 3.0), row("rpdi", 1, 8.0), row("rpdi", 0, None)]
    summary = summary_module.summarise(rows, "greedy")
    ahead = of(summary, "lookahead", "total_delay_s")
    assert (ahead["mean"], ahead["seeds"]) == (2, 2)
    versus = ahead["vs"]["greedy"]
    assert (versus["paired_difference"], versus["ci95_low"], versus["ci95_high"]) == (-1, -1, -1)
    assert versus["percent"] == pytest.approx(100 / 3)
    assert set(of(summary, "greedy", "total_delay_s")["vs"]) == {"lookahead"}
    # rpdi has but one seed with a delay: it is compared on that one
    rpdi = of(summary, "rpdi", "total_delay_s")["vs"]["greedy"]
    assert (rpdi["seeds"], rpdi["percent"], rpdi["percent_ci95_low"]) == (1, -100, None)
    assert not [each for each in summary if each["metric"] == "energy_J"]


def test_lower_bound_in_summary(tmp_path: Path) -> None:
    trials = plan_module.plan(asked(lower_bound=True))
    done = run_batch([trial.job for trial in trials], ResultStore(tmp_path, resume=False), Inline())
    rows = summary_module.rows(trials, done.results)
    assert len(rows) == 4
    summary = summary_module.summarise(rows, "greedy")
    bound, greedy = (of(summary, each, "reward")["mean"] for each in ("lower bound", "greedy"))
    assert bound is not None
    assert greedy is not None
    assert bound > greedy
    assert bound == pytest.approx(
        -sum(each["lower_bound"]["cost"] or 0.0 for each in rows[:2]) / 2, rel=1e-12
    )
    least = of(summary, "lower bound", "total_delay_s")["mean"]  # no deadline miss: cost is delay
    assert least == pytest.approx(-bound / 180)
    arguments = "--scheduler", "greedy", "--set", "slots=3", "--no-trace", "--lower-bound"
    alone = answer("run", str(SCENARIO), *arguments)
    assert rows[0]["lower_bound"]["cost"] == alone["lower_bound"]["cost"]
    assert rows[0]["lower_bound"]["gap_percent"] == alone["lower_bound"]["gap_percent"]


def test_summary_of_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_learner.use(monkeypatch)
    competitors = (Competitor("greedy", "greedy"), TOY)
    trials = plan_module.plan(asked(*competitors, training=Training(5), training_seeds=range(2)))
    done = run_batch([trial.job for trial in trials], ResultStore(tmp_path, resume=False), Inline())
    rows = summary_module.rows(trials, done.results)
    assert [each["training_seed"] for each in rows] == [None, None, 0, 0, 1, 1]
    curves = summary_module.curves(trials, done.results)
    assert [(c["training_seed"], c["episode"]) for c in curves] == [(0, 0), (0, 5), (1, 0), (1, 5)]
    toy = of(summary_module.summarise(rows, "greedy"), "toy", "reward")
    assert toy["seeds"] == 2
    assert toy["mean"] == pytest.approx(sum(each["reward"] or 0.0 for each in rows[2:]) / 4)


def test_train_once_with_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    toy_learner.use(monkeypatch)
    once = Competitor("toy, once", "tests.helpers.toy_learner:Wary", train_once=True)
    places = {"few": ["arrivals.rate=2"], "faded": ["radio.fading=rayleigh", "arrivals.rate=2"]}
    points = grid({SETTING: list(places)})
    training = Training(5)
    trials = plan_module.plan(
        asked(once, TOY, points=points, settings=places, baseline="toy", training=training)
    )
    trainings = [trial for trial in trials if trial.job.kind == "train"]
    assert [(trial.competitor and trial.competitor.label, trial.point) for trial in trainings] == [
        ("toy, once", {}), ("toy", points[0]), ("toy", points[1]),
    ]  # fmt: skip
    home = json.loads(trainings[0].job.scenario)
    assert (home["arrivals"]["rate"], home["radio"]["fading"]) == (60, "none")
    ran = [json.loads(trial.job.scenario) for trial in trials if trial.job.kind == "run"]
    assert {scenario["arrivals"]["rate"] for scenario in ran} == {2}
    assert [scenario["radio"]["fading"] for scenario in ran] == ["none"] * 4 + ["rayleigh"] * 4
    assert {
        trial.job.needs for trial in trials if trial.competitor == once and trial.job.needs
    } == {trainings[0].job}
    done = run_batch([trial.job for trial in trials], ResultStore(tmp_path, resume=False), Inline())
    assert not done.failures
    assert done.warnings == {
        "policy of tests.helpers.toy_learner:Wary was trained on another scenario"
    }
    assert not caplog.records
    rows = summary_module.rows(trials, done.results)
    assert [each["sweep"] for each in rows] == [points[0]] * 4 + [points[1]] * 4
    assert len(summary_module.curves(trials, done.results)) == 3 * 2


def test_train_once_with_sweep() -> None:
    once = Competitor("toy", TOY.scheduler, train_once=True)
    points = grid({"arrivals.rate": [30, 110]})
    trials = plan_module.plan(asked(once, points=points, baseline="toy", training=Training(5)))
    assert [trial.job.kind for trial in trials] == ["train", *["run"] * 4]
    with pytest.raises(InputError, match="'greedy' is not trained; expected a learning scheduler"):
        plan_module.plan(asked(Competitor("greedy", "greedy", train_once=True)))


def test_compare_writes_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "METRICS", ("total_delay_s", "failed"))  # others take as long
    out = tmp_path / "out"
    arguments = (
        "compare", str(SCENARIO), "--set", "slots=3", "--schedulers", "greedy,fixed", "--option",
        "fixed.placement=[1,1,1,2,2,2]", "--seeds", "2", "--sweep", "edge_servers=2,3",
        "--lower-bound",
    )  # fmt: skip
    document = answer(*arguments, "--out", str(out))
    rows, summary = document["rows"], document["summary"]
    assert isinstance(rows, list)
    assert isinstance(summary, list)
    assert document["curves"] == []
    assert [(r["sweep"]["edge_servers"], r["scheduler"], r["seed"]) for r in rows] == [
        (n, s, seed) for n in (2, 3) for s in ("greedy", "fixed") for seed in (0, 1)
    ]
    assert set(summary[0]) == {
        "scenario", "sweep", "scheduler", "metric", "seeds", "mean", "ci95_low", "ci95_high", "vs",
        "overloaded",
    }  # fmt: skip
    assert json.loads((out / "comparison.json").read_text(encoding="utf-8")) == document
    with (out / "rows.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(r["total_delay_s_mean"]) for r in table] == [
        r["total_delay_s"]["mean"] for r in rows
    ]
    assert "total_delay_s_p95" not in table[0]  # it is total_delay_p95_s
    assert float(table[0]["energy_J_p95"]) == rows[0]["energy_J"]["p95"]
    for name in TAILS:
        assert [float(r[name]) for r in table] == [summary_module.metric(r, name) for r in rows]
        entry = of(summary, "fixed", name, 2)
        assert entry["ci95_low"] is not None
        assert entry["ci95_high"] is not None
        assert entry["ci95_low"] <= (entry["mean"] or 0.0) <= entry["ci95_high"]
        assert "greedy" in entry["vs"]
    delays = rows[0]["total_delay_quantiles_s"]
    assert delays[QUANTILES.index(0.99)] == rows[0]["total_delay_s"]["p99"]
    with h5py.File(out / "comparison.h5") as file:
        assert file["summary/mean"][0] == summary[0]["mean"]
        assert file["rows/scheduler"].asstr()[:].tolist()[2] == "fixed"
    for kind in ("png", "svg"):
        assert (out / "figures" / f"total_delay_s.{kind}").stat().st_size > 1000
    assert not (out / "figures" / "failed.png").exists()
    direct = answer(
        "run", str(SCENARIO), "--set", "slots=3", "--set", "edge_servers=2", "--no-trace",
        "--scheduler", "greedy", "--kernel", "compiled", "--seed", "1",
    )  # fmt: skip
    assert rows[1]["reward"] == direct["reward"]
    assert "already exists. Use --resume" in mecsim(*arguments, "--out", str(out), code=2).stderr
    resumed = (*arguments, "--no-figures", "--out", str(out), "--resume")
    shown = mecsim(*resumed).stdout
    assert "reduction vs" in shown
    first = next(line.split() for line in shown.splitlines() if "greedy  " in line)
    tails = [of(summary, "greedy", name, 2)["mean"] or 0.0 for name in TAILS]
    assert first[-3:] == [number(tails[1]), number(tails[2]), number(100 * tails[3])]
    one = mecsim(*resumed, "--metric", TAILS[2]).stdout
    assert f"{number(tails[2])} ±" in one
    assert "misses" not in one
    assert "\n8 rows, " in shown
    assert "computed: nothing; results from an earlier call: 12\n" in shown


def test_comparison_of_the_tasks_that_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    arguments = (
        "compare", str(SCENARIO), "--set", "slots=3", "--schedulers", "fixed", "--option",
        "fixed.placement=[1,1,1,2,2,2]", "--seeds", "1", "--set", "measurement.warm_up=1",
        "--lower-bound", "--no-figures", "--out", str(tmp_path),
    )  # fmt: skip
    assert "counted: tasks released from 1 s to 3 s\n" in mecsim(*arguments).stdout
    (found,) = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert found["counted"] == {"from_s": 1.0, "to_s": 3.0, "released": 180}
    assert (found["tasks"], found["completed"]) == (120, 120)
    assert 0 < found["lower_bound"]["cost"] < -found["reward"]
    assert 0 < found["lower_bound"]["total_delay_s"] < found["total_delay_s"]["mean"]


def test_compare_with_failed_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    done = mecsim(
        "compare", str(SCENARIO), "--set", "slots=3", "--seeds", "1", "--sweep",
        "edge_servers=2,3", "--schedulers", "greedy,tests.helpers.toy_learner:Faulty",
        "--no-figures", "--out", str(tmp_path / "out"), code=1, cwd=ROOT,
    )  # fmt: skip
    assert "failed: Faulty, seed 0: scheduler 'tests.helpers.toy_learner:Faulty'" in done.stderr
    assert "odd servers are not for me" in done.stderr
    assert "3 rows" in done.stdout
    assert "computed: 3 runs; results from an earlier call: 0" in done.stdout


@pytest.mark.parametrize(
    ("more", "reported"),
    [
        (("--option", "rpdi.x=1"), "LABEL.KEY=VALUE with one of greedy"),
        (("--schedulers", ","), "empty list"),
        (("--seeds", "0"), "--seeds: 0"),
        (("--metric", "speed"), "expected one of total_delay_s"),
        (("--metric", "optimality_gap_percent"), "needs --lower-bound"),
        (("--episodes", "0"), "--episodes: 0"),
        (("--kernel", "foo"), "kernel: 'foo' is not known; allowed: simpy, compiled"),
        (("--sweep", "slots=3,5,3"), "the same value twice"),
        (("--sweep", "evaluated_on=1,2"), "expected a key of the scenario"),
        (("--engine", "cloud"), "expected one of local"),
        ((str(SCENARIO),), "two files of the same name"),
    ],
)
def test_compare_with_invalid_arguments(
    more: tuple[str, ...], reported: str, tmp_path: Path
) -> None:
    arguments = ("compare", str(SCENARIO), "--schedulers", "greedy", "--no-figures")
    assert reported in mecsim(*arguments, "--out", str(tmp_path / "o"), *more, code=2).stderr


PICKY = """
from mecsim import Scheduler, SchedulerSpec

class Picky(Scheduler):
    def __init__(self, spec: SchedulerSpec, *, keep: int = 1) -> None:
        super().__init__(spec)
        print("made")
        if not 0 <= keep < spec.servers:
            raise ValueError(f"keep is {keep}; allowed: 0 to {spec.servers - 1}")

    def decide(self, observation):
        return [1] * self.spec.blocks
"""


@pytest.mark.parametrize(
    ("more", "reported"),
    [
        (("--option", "own.keep=7"), "label 'own': scheduler"),
        (("--sweep", "own.keep=1,7"), "--sweep own.keep=7: label 'own': scheduler"),
        (("--sweep", "slots=3,4", "--option", "own.keep=7"), "label 'own': scheduler"),
        (
            ("--sweep", "edge_servers=9,4", "--option", "own.keep=7"),
            "--sweep edge_servers=4: label 'own': scheduler",
        ),
    ],
)
def test_values_that_a_scheduler_refuses_are_reported_before_any_job(
    more: tuple[str, ...], reported: str, tmp_path: Path
) -> None:
    (tmp_path / "picky.py").write_text(PICKY, encoding="utf-8")
    out = tmp_path / "out"
    done = mecsim(
        "compare", str(SCENARIO), "--set", "slots=3", "--seeds", "2", "--no-figures", "--json",
        "--schedulers", f"greedy,own={tmp_path / 'picky.py'}:Picky", "--out", str(out), *more,
        code=2,
    )  # fmt: skip
    assert (done.stdout, out.exists()) == ("", False)
    assert done.stderr.splitlines()[-1].startswith(f"mecsim: {reported}")
    assert "keep is 7; allowed: 0 to" in done.stderr


def test_schedulers_are_tried_once_for_each_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picky.py").write_text(PICKY, encoding="utf-8")
    own = Competitor("own", f"{tmp_path / 'picky.py'}:Picky")
    points = grid({"edge_servers": [4, 9], "arrivals.rate": [1, 2]})
    study = asked(own, TOY, points=points, baseline="own", training=Training(5))
    plan_module.check_schedulers(plan_module.plan(study))
    assert capsys.readouterr() == ("", "made\nmade\n")


def test_csv_and_markdown() -> None:
    table: report_tables.Table = {"a": ["x,y", None], "b": [0.1, 2]}
    assert report_tables.as_csv(table) == 'a,b\n"x,y",0.1\n,2\n'
    assert (
        report_tables.as_markdown(["a", "b"], [["x|y", "1"]])
        == "| a | b |\n| --- | ---: |\n| x/y | 1 |\n"
    )


@pytest.mark.slow
def test_closed_stdout(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m mecsim compare {SCENARIO} --set slots=3 --seeds 1 "
    command += f"--schedulers greedy --jobs 1 --no-figures --out {tmp_path / 'o'} >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert (tmp_path / "o" / "rows.csv").exists()


def test_defaults_of_options_are_in_the_keys_of_runs(tmp_path: Path) -> None:
    """A default that the source does not show, and one that is spelt out."""
    path = tmp_path / "own.py"
    path.write_text(
        "import json, pathlib\nfrom mecsim import Scheduler\n"
        "SERVER = json.loads(pathlib.Path(__file__).with_name('server.json').read_text())\n"
        "class Own(Scheduler):\n"
        "    def __init__(self, spec, server: int = SERVER, unlikely: object = object()):\n"
        "        super().__init__(spec)\n"
        "    def decide(self, observation):\n        return [0] * self.spec.blocks\n",
        encoding="utf-8",
    )

    def key(default: int, **options: Any) -> str:
        (tmp_path / "server.json").write_text(f"{default}", encoding="utf-8")
        own = Competitor("own", f"{path}:Own", options)
        trials = plan_module.plan(asked(own, baseline="own", seeds=[0]))
        return trials[0].job.key

    assert key(1) == key(1) != key(2)
    assert key(2) == key(2, server=2) != key(2, server=1)


PAPER_MODE = {"train_freq": "episode", "learning_rate": 0.01, "batch_size": 32}


def test_preset_of_competitors_is_in_their_training_jobs() -> None:
    paper = Competitor("of the paper", "dqn", {"gamma": 0.5}, preset="paper")
    all_options = resolve_settings("dqn", {"gamma": 0.5}, "paper").model_dump()
    spelt = Competitor("spelt out", "dqn", all_options)
    trials = plan_module.plan(
        asked(paper, spelt, Competitor("dqn", "dqn"), baseline="dqn", training=Training(5))
    )
    jobs = [trial.job for trial in trials if trial.job.kind == "train"]
    assert jobs[0].key == jobs[1].key != jobs[2].key  # by content
    options = [json.loads(job.options) for job in jobs]
    assert PAPER_MODE.items() <= options[0].items()
    assert (options[0]["gamma"], options[2]["gamma"]) == (0.5, 0.95)
    assert options[2] == resolve_settings("dqn", {}).model_dump()  # defaults are in the key, too


@pytest.mark.parametrize(
    ("competitor", "problem"),
    [
        (Competitor("x", "dqn", preset="papers"), "has no preset 'papers'"),
        (Competitor("x", "dqn", preset="paper", workers=2), "--option work_nodes=2"),
        (Competitor("x", "greedy", preset="paper"), "preset: 'x' is not trained; expected a"),
        (Competitor("x", "dqn", {"policy": "p"}, preset="paper"), "preset: 'x' is not trained"),
    ],
)
def test_presets_that_are_wrong(competitor: Competitor, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        plan_module.plan(asked(competitor, baseline="x", training=Training(5)))


def test_preset_of_a_comparison() -> None:
    request = StudyRequest([SCENARIO], ["greedy", "dqn"], episodes=5, presets=["paper"])
    assert [each.preset for each in make_study(request).competitors] == [None, "paper"]
    with pytest.raises(InputError, match="--preset paper: no scheduler here is trained"):
        make_study(replace(request, schedulers=["greedy"]))
    given = replace(request, options=["dqn.policy=p.safetensors"])
    with pytest.raises(InputError, match="no scheduler here is trained"):
        make_study(given)
