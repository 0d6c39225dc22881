"""The library's `run`: what it takes, and the arrays, frames and pictures that it returns."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim import Observation, Placement, Scheduler, SchedulerSpec, load, run
from mecsim.errors import InputError, ScenarioError, SchedulerError
from mecsim.simulation.replay import replay_with
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import scenario

SMALL = {"slots": 3, "arrivals": {"process": "slotted", "rate": 4}, "devices": 2}


class AllAt(Scheduler):
    """All blocks at one place."""

    def __init__(self, spec: SchedulerSpec, *, place: int = 1) -> None:
        super().__init__(spec)
        self.place = place

    def decide(self, observation: Observation) -> Placement:
        return [self.place] * self.spec.blocks


class Fickle(AllAt):
    """Another place in each run."""

    runs = 0

    def __init__(self, spec: SchedulerSpec) -> None:
        super().__init__(spec, place=Fickle.runs % 3)
        Fickle.runs += 1


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(
        "slots: 2\nedge_servers: 2\narrivals: {process: slotted, rate: 3}\n", encoding="utf-8"
    )
    return "x.yaml"


# ---------------------------------------------------------------- scenarios


def test_run_takes_a_file_a_path_and_a_name(file: str) -> None:
    summary = run(file, "greedy").summary
    assert (summary.scenario, summary.tasks) == ("x", 6)
    assert run(Path(file), "greedy").summary.reward == summary.reward
    assert run(load(file), "greedy").summary.reward == summary.reward
    assert run(load(file, ["slots=1"]), "greedy").summary.scenario == "x (slots=1)"
    assert run(file, "greedy", name="mine").summary.scenario == "mine"
    assert run(scenario(), "greedy").summary.scenario == "scenario"
    with pytest.raises(ScenarioError, match=r"nowhere: cannot be read.*vgg16_4es"):
        run("nowhere")


def test_other_things_are_no_scenario() -> None:
    for thing in ({"slots": 3}, None, 3):
        with pytest.raises(InputError, match=r"scenario: .* expected a Scenario, a path or a name"):
            run(thing)  # type: ignore[arg-type]


def test_overrides_may_be_one_text(file: str) -> None:
    assert load(file, "slots=60") == load(file, ["slots=60"])
    assert load(file, "slots=60").slots == 60
    for wrong in ({"slots": 60}, [("slots", 60)], 60):
        with pytest.raises(InputError, match=r"overrides: .* expected 'KEY.PATH=VALUE' texts"):
            load(file, wrong)  # type: ignore[arg-type]


def test_environments_take_names_and_one_override(file: str) -> None:
    env = pytest.importorskip("mecsim.env")
    assert env.PartitionEnv("vgg16_4es", overrides="slots=2").scenario.slots == 2
    assert env.PartitionEnv(load(file), overrides="slots=2").scenario.slots == 2


def test_options_are_a_mapping() -> None:
    with pytest.raises(InputError, match=r"options: .* expected a mapping of names to values"):
        run(scenario(), "greedy", ["places=servers"])  # type: ignore[arg-type]


# ---------------------------------------------------------------- schedulers


def test_run_takes_a_class() -> None:
    summary = run(scenario(), AllAt, {"place": 2}).summary
    assert summary.scheduler == "tests.simulation.test_library:AllAt"
    assert summary.reward == run(scenario(), summary.scheduler, {"place": 2}).summary.reward
    assert [row.name for row in summary.resources if "cpu" in row.name] == ["es2.cpu"]
    with pytest.raises(SchedulerError, match="AllAt': has no option 'plaice'; did you mean"):
        run(scenario(), AllAt, {"plaice": 2})


def test_a_class_of_a_notebook_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AllAt, "__module__", "__main__")
    assert run(scenario(), AllAt).summary.scheduler == "AllAt"


def test_run_takes_a_function_of_the_spec() -> None:
    found = run(scenario(), lambda spec: AllAt(spec, place=2))
    assert found.summary.reward == run(scenario(), AllAt, {"place": 2}).summary.reward
    with pytest.raises(SchedulerError, match=r"options: .* set them where it is made"):
        run(scenario(), lambda spec: AllAt(spec, place=1), {"place": 2})
    with pytest.raises(SchedulerError, match="cannot be made: ZeroDivisionError"):
        run(scenario(), lambda spec: AllAt(spec, place=1 // 0))
    with pytest.raises(SchedulerError, match=r"made a list; expected a mecsim.Scheduler"):
        run(scenario(), lambda spec: [spec])  # type: ignore[arg-type]


def test_run_takes_an_instance_that_was_made_for_the_run() -> None:
    made: list[AllAt] = []

    def make(spec: SchedulerSpec) -> AllAt:
        made.append(AllAt(spec, place=2))
        return made[0]

    first = run(scenario(), make, seed=3)
    again = run(scenario(), made[0], seed=3)
    assert again.summary.reward == first.summary.reward
    for other in (scenario(devices=2), scenario()):  # another scenario, another seed
        with pytest.raises(SchedulerError, match=r"was made for another .* Try: its class"):
            run(other, made[0], seed=4 if other == scenario() else 3)
    with pytest.raises(InputError, match=r"tasks: .* Try: .*out="):
        _ = again.tasks


@pytest.mark.parametrize("thing", [3, int, ["greedy"]])
def test_other_things_are_no_scheduler(thing: Any) -> None:
    with pytest.raises(SchedulerError, match=r"expected a name, a subclass of mecsim.Scheduler"):
        run(scenario(), thing)


# ---------------------------------------------------------------- results


def test_out_is_a_text_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in ("x.h5", Path("y.h5")):
        assert run(scenario(), "local", out=out).trace == Path(out)
        assert Path(out).is_file()


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize("traced", [True, False])
def test_rows_are_arrays(kernel: str, traced: bool, tmp_path: Path) -> None:
    """One task of one block in each of two slots, on server 2: 1 bit and 1 cycle each."""
    out = tmp_path / "t.h5" if traced else None
    result = run(scenario(slots=2), AllAt, {"place": 2}, kernel=kernel, out=out)
    assert result.tasks["release_s"].tolist() == [0.0, 1.0]
    assert result.tasks["total_s"].mean() == result.summary.total_delay_s.mean
    assert result.blocks["node"].tolist() == [2, 2]
    assert result.blocks["task"].tolist() == [0, 1]
    assert result.decisions["placement"].tolist() == [[2], [2]]
    assert result.decisions["reward"].sum() == pytest.approx(result.summary.reward)
    assert len(result.features) == result.decisions["observation"].shape[1]
    assert result.tasks is result.tasks


def test_rows_of_a_run_that_was_traced_in_memory() -> None:
    memory = MemoryTrace()
    result = run(scenario(), "local", memory=memory)
    assert result.tasks["total_s"] is memory["tasks/total_s"]


def test_rows_of_a_run_without_tasks_are_empty() -> None:
    idle = run(scenario(arrivals={"process": "slotted", "rate": 0}), "local")
    assert len(idle.tasks["total_s"]) == len(idle.blocks["node"]) == 0
    assert "0 of 0 tasks completed" in repr(idle)
    with pytest.raises(InputError, match="plot: no task completed"):
        idle.plot()


def test_a_scheduler_that_cannot_be_repeated_is_noticed() -> None:
    result = run(scenario(), Fickle)
    with pytest.raises(InputError, match=r"decided differently .* Try: .*out="):
        _ = result.tasks


def test_rows_of_a_replay(tmp_path: Path) -> None:
    run(scenario(), "local", out=tmp_path / "a.h5")
    other = replay_with(tmp_path / "a.h5", "edge", out=tmp_path / "b.h5")
    assert other.blocks["node"].tolist() == [1]
    with pytest.raises(InputError, match=r"tasks: .* Try: .*out="):
        _ = replay_with(tmp_path / "a.h5", "edge").tasks


def test_frames() -> None:
    pandas = pytest.importorskip("pandas")
    result = run(scenario(**SMALL), AllAt)
    tasks = result.frame("tasks")
    assert isinstance(tasks, pandas.DataFrame)
    assert len(tasks) == 12
    assert tasks["total_s"].mean() == pytest.approx(result.summary.total_delay_s.mean)
    decisions = result.frame("decisions")
    assert decisions["placement_0"].tolist() == [1, 1, 1]
    assert set(result.features) <= set(decisions.columns)
    with pytest.raises(InputError, match="frame: 'hop'; allowed: tasks, blocks, decisions"):
        result.frame("hop")


def test_a_frame_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"frame: needs pandas. Try: pip install pandas"):
        run(scenario(), "local").frame("tasks")


def test_how_a_result_is_shown() -> None:
    result = run(scenario(**SMALL), AllAt, name="<b>&mine")
    text = repr(result)
    assert text.startswith("tests.simulation.test_library:AllAt on <b>&mine, seed 0")
    assert re.search(r"^total delay \(s\) +\S", text, re.MULTILINE)
    assert "12 of 12 tasks completed" in text
    page = result._repr_html_()
    assert "&lt;b&gt;&amp;mine" in page
    assert "<b>&mine" not in page
    assert page.count("<table") == page.count("</table>") == 2
    for number in (f"{result.summary.resources[0].utilization:.1%}", "total delay (s)"):
        assert number in page
    assert "no policy of mtl-a3c" in repr(run(scenario()))
    assert "no policy of mtl-a3c" in run(scenario())._repr_html_()


def test_a_plot_of_the_delays() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    result = run(scenario(**SMALL), AllAt)
    axes = result.plot()
    assert run(scenario(**SMALL), "local").plot(axes) is axes
    ours, local = axes.get_lines()
    assert np.array_equal(np.unique(ours.get_xdata()), np.unique(result.tasks["total_s"]))
    assert (ours.get_label(), local.get_label()) == (result.summary.scheduler, "local")
    assert "(s)" in axes.get_xlabel()
    plt.close("all")


def test_a_result_can_be_pickled() -> None:
    result = run(scenario(), "local")
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.tasks["total_s"].tolist() == result.tasks["total_s"].tolist()


def test_a_trace_has_the_ending_of_traces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.csv: expected a file name that ends in \.h5"):
        run(scenario(slots=2), "local", out=tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())
