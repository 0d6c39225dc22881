"""The first commands of a new user: no scheduler named, scenarios by name, missing files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mecsim import load, run
from mecsim.learning import policy_file
from mecsim.learning.interface import find_policy
from mecsim.model.model import resolve
from mecsim.scheduler.spec import SchedulerSpec
from tests.helpers.batches import in_this_process
from tests.helpers.cli import answer, mecsim

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "results" / "policies" / "vgg16_loaded-mtl-a3c.safetensors"
OWN = "slots: 2\ndevices: 4\nedge_servers: 3\narrivals: {process: slotted, rate: 2}\n"
NONE_TRAINED = "no policy of mtl-a3c was trained on this scenario"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(OWN, encoding="utf-8")
    return path


def trained_on(scenario: Path, policy: Path) -> None:
    """Make a policy for a scenario out of a shipped one: only its header counts here."""
    found = policy_file.read_policy(SHIPPED)
    sha256 = load(scenario).sha256_of_slots()
    header = found.header.model_copy(update={"scenario_sha256": sha256})
    policy_file.write_policy(policy, found._replace(header=header))


def test_greedy_decides_where_no_policy_was_trained(own: Path, tmp_path: Path) -> None:
    done = mecsim("run", str(own), cwd=tmp_path)
    first, second, *_ = done.stdout.splitlines()
    assert first == f"scheduler: greedy, as {NONE_TRAINED} (--scheduler NAME chooses another)"
    assert second.startswith("greedy on own, seed 0")
    assert done.stderr == ""
    assert (tmp_path / "results" / "own-greedy-0.h5").is_file()
    found = answer("run", str(own), "--no-trace", cwd=tmp_path)
    assert (found["scheduler"], found["scheduler_reason"]) == ("greedy", NONE_TRAINED)
    named = answer("run", str(own), "--no-trace", "--scheduler", "greedy", cwd=tmp_path)
    assert "scheduler_reason" not in named
    assert named["reward"] == found["reward"]
    assert mecsim("run", str(own), "--no-trace", "--quiet", cwd=tmp_path).stderr == ""


def test_a_large_run_on_the_slow_kernel_has_a_hint(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", str(own), "--no-trace", "--scheduler", "greedy")
    assert mecsim(*command, cwd=tmp_path).stderr == ""
    monkeypatch.setattr("mecsim.cli.run.MANY_EXECUTIONS", 24)
    found = mecsim(*command, cwd=tmp_path).stderr  # 2 slots of 2 tasks of 6 blocks
    assert found.startswith("mecsim: kernel: simpy simulates about 24 executions of blocks slowly.")
    assert "Try: --kernel compiled" in found
    for more in (("--kernel", "compiled"), ("--quiet",), ("--json",)):
        assert mecsim(*command, *more, cwd=tmp_path).stderr == ""


def test_the_policy_that_was_trained_on_a_scenario_decides(tmp_path: Path) -> None:
    found = answer("run", "vgg16_loaded", "--no-trace", "--set", "slots=2", cwd=tmp_path)
    assert found["scheduler"] == "mtl-a3c"
    assert found["scheduler_reason"] == f"its policy {SHIPPED} was trained on this scenario"
    own = tmp_path / "own.yaml"
    own.write_text("extends: vgg16_loaded\nslots: 2\nwired: {rate: 3 Gbit/s}\n", encoding="utf-8")
    assert answer("run", str(own), "--no-trace", cwd=tmp_path)["scheduler"] == "greedy"
    policy = tmp_path / "results" / "training" / "mine.safetensors"
    trained_on(own, policy)
    found = answer("run", str(own), "--no-trace", cwd=tmp_path)
    assert found["scheduler"] == "mtl-a3c"
    assert found["scheduler_reason"] == f"its policy {policy} was trained on this scenario"


def test_a_policy_that_does_not_fit_is_told_and_greedy_decides(own: Path, tmp_path: Path) -> None:
    policy = tmp_path / "results" / "policies" / "mine.safetensors"
    trained_on(own, policy)  # of a network with four servers
    found = answer("run", str(own), "--no-trace", cwd=tmp_path)
    assert found["scheduler"] == "greedy"
    assert found["scheduler_reason"] == (f"policy {policy}: has edge_servers: 4. Expected: 3")


def test_a_learner_that_is_named_needs_its_policy(own: Path, tmp_path: Path) -> None:
    said = mecsim(
        "run", str(own), "--scheduler", "mtl-a3c", "--no-trace", cwd=tmp_path, code=2
    ).stderr
    assert "scheduler 'mtl-a3c': there is no policy for this scenario" in said
    assert "--option policy=FILE" in said
    assert said.endswith("or --scheduler greedy, which needs none\n")


def test_options_need_a_scheduler(own: Path, tmp_path: Path) -> None:
    said = mecsim("run", str(own), "--option", "places=servers", cwd=tmp_path, code=2).stderr
    assert said == (
        "mecsim: options: places belongs to a scheduler, and none is named. Try: --scheduler NAME\n"
    )
    assert list(tmp_path.iterdir()) == [own]


def test_the_library_chooses_as_the_command_does(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = run(load(own)).summary
    assert (summary.scheduler, summary.scheduler_reason) == ("greedy", NONE_TRAINED)
    assert run(load("vgg16_loaded", ["slots=1"])).summary.scheduler == "mtl-a3c"
    spec = SchedulerSpec.of(resolve(load("vgg16_loaded")))
    assert find_policy("mtl-a3c", spec) == SHIPPED


def test_commands_take_the_name_of_a_shipped_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    assert answer("check", "city", cwd=tmp_path)["scenario"]["edge_servers"] > 4
    mecsim("run", "vgg16_4es", "--set", "slots=1", "--quiet", cwd=tmp_path)
    (trace,) = (tmp_path / "results").glob("vgg16_4es-*.h5")
    assert trace.is_file()
    compared = answer(
        "compare", "vgg16_4es", "--schedulers", "greedy,local", "--seeds", "1", "--jobs", "1",
        "--set", "slots=1", "--no-figures", "--out", "out", cwd=tmp_path,
    )  # fmt: skip
    assert {row["scenario"] for row in compared["rows"]} == {"vgg16_4es"}
    said = mecsim("train", "vgg16_4ez", cwd=tmp_path, code=2).stderr
    assert "did you mean 'vgg16_4es'? allowed: " in said


# ---------------------------------------------------------------- check


RECORDED = "slots: 2\ndevices: 4\narrivals: {{process: trace, file: {}}}\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no such file; a trace is a file that mecsim run has written"),
        (b"", "is damaged, or no HDF5 file: it is empty"),
        (b"release,device\n0,1\n", "is damaged, or no HDF5 file"),
    ],
)
def test_check_refuses_arrivals_that_are_no_trace(
    content: bytes | None, problem: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(RECORDED.format("tasks.h5"), encoding="utf-8")
    if content is not None:
        (tmp_path / "tasks.h5").write_bytes(content)
    done = mecsim("check", str(own), cwd=tmp_path, code=2)
    assert done.stdout == ""
    start = f"mecsim: {own}:3: arrivals.file: {tmp_path / 'tasks.h5'}: {problem}"
    assert done.stderr.startswith(start)
    assert "file names are relative to the file that holds them" in done.stderr
    assert done.stderr == mecsim("run", str(own), "--no-trace", "--quiet", code=2).stderr


def test_check_refuses_a_trace_that_does_not_fit(own: Path, tmp_path: Path) -> None:
    mecsim("run", str(own), "--out", "tasks.h5", "--quiet", cwd=tmp_path)
    again = tmp_path / "again.yaml"
    again.write_text(RECORDED.format("tasks.h5"), encoding="utf-8")
    assert answer("check", str(again), cwd=tmp_path)["scenario"]["devices"] == 4
    said = mecsim("check", str(again), "--set", "slots=1", code=2).stderr
    assert "arrivals.file" in said
    assert "allowed: in order, before" in said
    shutil.copy(tmp_path / "tasks.h5", tmp_path / "elsewhere.h5")
    assert mecsim("check", str(again), "--set", "arrivals.file=elsewhere.h5", cwd=tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read {file}: No such file or directory"),
        ("{", "{file} is not a JSON file"),
        ("{}", "{file}: name: "),
    ],
)
def test_check_refuses_a_profile_that_is_none(
    content: str | None, problem: str, tmp_path: Path
) -> None:
    own, profile = tmp_path / "own.yaml", tmp_path / "mine.json"
    own.write_text("slots: 2\ndnn: {model: mine.json, blocks: 2}\n", encoding="utf-8")
    if content is not None:
        profile.write_text(content, encoding="utf-8")
    done = mecsim("check", str(own), code=2)
    assert done.stdout == ""
    expected = problem.format(file=profile)
    assert done.stderr.startswith(f"mecsim: {own}:2: dnn.model: {expected}")
    assert "`mecsim profile MODEL --save FILE` writes a profile" in done.stderr
