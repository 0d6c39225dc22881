"""The command line: what it prints, where it puts it, and its exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import yaml

from mecsim.scenario.loading import load
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.replay import replay_with
from mecsim.simulation.run import run as run_scenario
from tests.helpers.cli import COMMAND, answer, mecsim, mecsim_process
from tests.helpers.shipped import FILES

ROOT = Path(__file__).parents[2]
SCENARIO = str(ROOT / "scenarios" / "vgg16_loaded.yaml")
GREEDY = ("--scheduler", "greedy")
STATISTICS = {"mean", "std", "p50", "p95", "p99", "max"}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "t.h5"
    mecsim("run", SCENARIO, *GREEDY, "--set", "slots=4", "--out", str(path), "--quiet")
    return path


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['mecsim', '--help']\n"
        "from mecsim.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'numba', 'matplotlib', 'pydantic', 'pint', 'h5py'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("run", SCENARIO, *GREEDY, "--set", "slots=2", "--no-trace"), 0),
        (("run", "nowhere.yaml"), 2),
        (("fly",), 2),
    ],
)
def test_a_process_prints_and_ends_as_a_command_in_this_one(
    arguments: tuple[str, ...], code: int
) -> None:
    """The other tests of commands rely on it."""
    process, here = mecsim_process(*arguments, code=code), mecsim(*arguments, code=code)
    progress = r".*: \d+ of \d+ slots.*\n"  # of a process that is slow
    varying = re.compile(
        rf"{progress}|in [\d.]+ s \([\d,]+ per second\)|python -m [\w.]+|mecsim(?= )"
    )
    for one, other in zip(process, here, strict=True):
        assert varying.sub("", one) == varying.sub("", other)


def test_an_unexpected_exit_code_fails_a_test() -> None:
    with pytest.raises(AssertionError, match="is not a known key"):
        mecsim("run", SCENARIO, "--set", "slot=3", "--no-trace")


def test_run_json(tmp_path: Path) -> None:
    out = tmp_path / "t.h5"
    document = answer(
        "run", SCENARIO, *GREEDY, "--set", "slots=3", "--seed", "5", "--out", str(out)
    )
    assert list(document) == [
        "scenario", "scheduler", "seed", "kernel", "tasks", "completed", "failed",
        "total_delay_s", "edge_delay_s", "local_delay_s", "energy_J", "late_blocks",
        "miss_ratio", "reward", "resources", "events", "drained_s", "overloaded", "wall_s", "trace",
    ]  # fmt: skip
    assert (document["scenario"], document["scheduler"], document["seed"]) == (
        "vgg16_loaded (slots=3)",
        "greedy",
        5,
    )
    assert (document["tasks"], document["completed"], document["failed"]) == (180, 180, 0)
    for key in ("total_delay_s", "edge_delay_s", "local_delay_s", "energy_J"):
        values = document[key]
        assert isinstance(values, dict)
        assert set(values) == STATISTICS
    resources = document["resources"]
    assert isinstance(resources, list)
    assert set(resources[0]) == {"name", "utilization", "mean_queue", "mean_wait_s"}
    assert document["trace"] == str(out)
    assert out.is_file()


def test_run_output_path(tmp_path: Path) -> None:
    scenario = tmp_path / "tiny.yaml"
    scenario.write_text("slots: 1\n", encoding="utf-8")
    mecsim("run", "tiny.yaml", "--scheduler", "rpdi", "--quiet", cwd=tmp_path)
    results = tmp_path / "results"
    assert [path.name for path in results.iterdir()] == ["tiny-rpdi-0.h5"]
    mecsim("run", "tiny.yaml", *GREEDY, "--out", "other/place", "--quiet", cwd=tmp_path)
    assert (tmp_path / "other" / "place" / "tiny-greedy-0.h5").is_file()
    mecsim("run", "tiny.yaml", *GREEDY, "--no-trace", cwd=tmp_path)
    assert len(list(results.iterdir())) == 1
    for rate in (2, 3):  # changed scenarios do not overwrite each other
        mecsim(
            "run",
            "tiny.yaml",
            *GREEDY,
            "--set",
            f"arrivals={{process: slotted, rate: {rate}}}",
            "--quiet",
            cwd=tmp_path,
        )
    assert len(list(results.glob("tiny-greedy-0-*.h5"))) == 2
    refused = mecsim("run", "tiny.yaml", "--out", "t.csv", cwd=tmp_path, code=2).stderr
    assert "ends in .h5, or a folder" in refused


def test_replay_keeps_its_trace(trace: Path) -> None:
    before = trace.read_bytes()
    reported = mecsim(
        "replay", str(trace), "--scheduler", "rpdi", "--out", str(trace), code=2
    ).stderr
    assert "is the recorded trace itself" in reported
    assert trace.read_bytes() == before


@pytest.mark.parametrize(
    ("column", "reported"),
    [
        ("resources/name", "/resources/name differs first at row 1"),
        ("resources/node", "/resources/node differs first at row 1"),
        ("resources/capacity", "/resources/capacity differs first at row 1"),
        ("resources/busy_s", "/resources/busy_s differs first at row 1"),
        ("slots/rate_bps", "/slots/rate_bps differs first at row 1, entry 0"),
        ("hops/start_s", "/hops/start_s differs first at row 1"),
    ],
)
def test_replay_of_changed_trace(column: str, reported: str, trace: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.h5"
    changed.write_bytes(trace.read_bytes())
    with h5py.File(changed, "r+") as file:
        values = file[column][:]
        row = (1, 0) if values.ndim == 2 else 1
        values[row] = b"zz" if values.dtype.kind == "S" else values[row] + 1
        file[column][:] = values
    difference = str(answer("replay", str(changed), code=1)["difference"])
    assert difference.startswith(reported)
    assert len(difference) < 120


def test_json_with_printing_scheduler(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "from mecsim import Scheduler\n\n\n"
        "class Loud(Scheduler):\n"
        "    def decide(self, observation):\n"
        "        print('hello')\n"
        "        return [0] * self.spec.blocks\n",
        encoding="utf-8",
    )
    loud = str(tmp_path / "loud.py") + ":Loud"
    document = answer("run", SCENARIO, "--set", "slots=2", "--no-trace", "--scheduler", loud)
    assert document["completed"] == 120


@pytest.mark.slow
def test_full_stdout() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [*COMMAND, "profile", "--list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "cannot be written: No space left" in done.stderr


def test_check_of_nonconforming_scheduler(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from mecsim import Scheduler\n\n\n"
        "class Bad(Scheduler):\n"
        "    def decide(self, observation):\n"
        "        return [99] * self.spec.blocks\n",
        encoding="utf-8",
    )
    bad = str(tmp_path / "bad.py") + ":Bad"
    assert "does not conform" in mecsim("schedulers", "--check", bad, code=1).stdout
    mecsim("schedulers", "--check", "nowhere.py:Bad", code=2)
    no_class = mecsim("schedulers", "--check", str(tmp_path / "bad.py"), code=2).stderr
    assert "names no class. Expected: path/file.py:Class" in no_class


@pytest.mark.parametrize(
    ("name", "option", "reported"),
    [
        ("lookahead", "budgets=3", "scheduler 'lookahead': has no option 'budgets'"),
        ("lookahead", "budget=x", "scheduler 'lookahead': option budget: 'x'"),
        ("fixed", "places=3", "scheduler 'fixed': has no option 'places'"),
    ],
)
def test_wrong_options_of_a_check_are_wrong_input(name: str, option: str, reported: str) -> None:
    done = mecsim("schedulers", "--check", name, "--option", option, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith(f"mecsim: {reported}")
    assert "slot epochs" not in done.stderr


def test_replay_refuses_options_before_it_replays(tmp_path: Path) -> None:
    trace = tmp_path / "run.h5"
    mecsim("run", "vgg16_4es", "--set", "slots=2", "--scheduler", "rpdi", "--quiet",
           "--out", str(trace))  # fmt: skip
    trace.write_bytes(trace.read_bytes()[:5000])  # replaying it is an error
    for scheduler, option, reported in (
        ("greedy", "placs=all", "did you mean 'places'?"),
        ("gredy", "places=all", "did you mean 'greedy'?"),
    ):
        arguments = ("replay", str(trace), "--scheduler", scheduler, "--option", option)
        assert reported in mecsim(*arguments, code=2).stderr


@pytest.mark.quick("bursty-rpdi", "vgg16_loaded-greedy", "vgg16_loaded-single-cut")
@pytest.mark.parametrize("scheduler", ["greedy", "single-cut", "rpdi"])
@pytest.mark.parametrize("scenario", ["bursty", "vgg16_loaded"])
def test_replay_with_equals_run(scenario: str, scheduler: str, tmp_path: Path) -> None:
    """Also the expectations that it receives for unknown tasks."""
    spec = load(ROOT / "scenarios" / f"{scenario}.yaml", ["slots=10"])
    run_scenario(spec, "local", seed=7, out=tmp_path / "a.h5")
    other = replay_with(tmp_path / "a.h5", scheduler, out=tmp_path / "b.h5")
    direct = run_scenario(spec, scheduler, seed=7)
    assert other.summary.reward == direct.summary.reward
    assert replay_trace(tmp_path / "b.h5").difference is None


def test_run_tables_and_quiet(tmp_path: Path) -> None:
    arguments = ("run", SCENARIO, "--set", "slots=2", "--out", str(tmp_path))
    shown = mecsim(*arguments).stdout
    for text in ("total delay (s)", "120 of 120 tasks completed", "Busiest resources", "reward"):
        assert text in shown
    assert mecsim(*arguments, "--quiet").stdout == ""


def test_error_line_and_exit_code(tmp_path: Path) -> None:
    done = mecsim("run", SCENARIO, "--set", "slot=3", "--out", str(tmp_path), code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("mecsim: --set slot=3: slot: is not a known key; did you mean")
    assert list(tmp_path.iterdir()) == []
    assert "exit" not in mecsim("run", "nowhere.yaml", code=2).stderr
    assert "allowed: simpy" in mecsim("run", SCENARIO, "--kernel", "fast", code=2).stderr
    assert "seed" in mecsim("run", SCENARIO, "--seed", "-1", "--no-trace", code=2).stderr
    assert mecsim("run", code=2).stdout == ""
    mecsim("fly", code=2)


def test_warnings_begin_as_all_messages(tmp_path: Path) -> None:
    path = tmp_path / "strong.yaml"
    path.write_text("slots: 2\nradio: {transmit_power: 23}\n", encoding="utf-8")
    (line,) = mecsim("check", str(path)).stderr.splitlines()
    assert line.startswith(f"mecsim: {path}:2: radio.transmit_power: 23 without a unit")


def test_debug_shows_the_traceback() -> None:
    command = [*COMMAND, "run", "nowhere.yaml", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_check_output_is_a_scenario(tmp_path: Path) -> None:
    resolved = mecsim("check", SCENARIO, "--set", "edge_servers=7").stdout
    assert yaml.safe_load(resolved)["edge_servers"] == 7
    assert "Blocks (per task" in resolved
    (tmp_path / "again.yaml").write_text(resolved, encoding="utf-8")
    one, other = answer("check", SCENARIO), answer("check", str(tmp_path / "again.yaml"))
    assert one["blocks"] == other["blocks"]


def test_check_tells_which_devices_each_server_serves() -> None:
    far = "edge_server.positions=[[0, 0], [1 km, 0], [0, 1 km], [1000 km, 0]]"
    arguments = ["check", SCENARIO, "--set", far, "--set", "devices=20"]
    servers = answer(*arguments)["servers"]
    assert sum(each["devices"] for each in servers) == 20
    assert servers[3]["position_m"] == [1e6, 0.0]
    assert servers[3]["devices"] == 5
    assert 310 <= servers[3]["distance_m"][0] <= servers[3]["distance_m"][1] <= 750
    shown = mecsim(*arguments).stdout
    row = r"^# ES 4 +device 3, 7, 11, 15, 19 +1,000,000, 0 +5 +\d+\S* to \d+"
    assert re.search(row, shown, re.MULTILINE)
    many = mecsim("check", SCENARIO, "--set", "edge_servers=25", "--set", "devices=1").stdout
    assert re.search(r"^# ES 20 +\S+, \S+ +0 +– +–$", many, re.MULTILINE)
    assert "# … 5 more with --json" in many


def test_check_of_groups(tmp_path: Path) -> None:
    """The output is a scenario again; members, links and times have the names of the groups."""
    described = {
        "edge_servers": [{"name": "rack", "count": 2}, {"name": "cloud", "radio": False}],
        "devices": [{"name": "phone", "count": 40}, {"name": "camera", "capacity": "1 GHz"}],
        "dnn": {"blocks": 3},
        "wired": {"topology": "explicit", "links": [
            {"from": "rack", "to": "rack"}, {"from": "rack.1", "to": "cloud", "latency": "20 ms"},
        ]},
    }  # fmt: skip
    path = tmp_path / "groups.yaml"
    path.write_text(yaml.safe_dump(described), encoding="utf-8")
    shown = mecsim("check", str(path)).stdout
    for row in (
        "rack.1 +20 phones, 1 camera +0, 0 +21",
        "rack.2 +20 phones +1,500, 0 +20",
        "cloud +no radio +0 +– +–",
        "rack.1 +cloud +1,000 +20",
        "place +phone +camera",
        "best placement",
    ):
        assert re.search(f"^# {row}", shown, re.MULTILINE), row
    again = tmp_path / "again.yaml"
    again.write_text(shown, encoding="utf-8")
    assert answer("check", str(again)) == (found := answer("check", str(path)))
    assert found["links"][1]["latency_s"] == 0.02
    assert [row["place"] for row in found["times"]][1:4] == ["rack.1", "rack.2", "cloud"]
    full = mecsim("check", str(path), "--set", "wired={}", "--set", "edge_servers.rack.count=5")
    assert re.search(r"^# 30 links", full.stdout, re.MULTILINE)


def test_check_output_leaves_out_what_has_no_effect(tmp_path: Path) -> None:
    resolved = mecsim("check", SCENARIO, "--set", "radio.rate=1 MB/s").stdout
    assert "bandwidth" not in resolved
    assert "branching" not in resolved
    (tmp_path / "again.yaml").write_text(resolved, encoding="utf-8")
    assert answer("check", str(tmp_path / "again.yaml"))["scenario"]["radio"]["rate"] == 8e6


def test_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(mecsim("check", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in FILES:
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    for wrong in ({"slotz": 3}, {"slots": 0}, {"arrivals": {"process": "none"}}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)


def test_replay_identical(trace: Path) -> None:
    assert "identical: all columns" in mecsim("replay", str(trace)).stdout
    document = answer("replay", str(trace))
    assert document["identical"] is True
    assert document["rows"]["tasks"] == 240


def test_replay_with_another_scheduler(trace: Path, tmp_path: Path) -> None:
    arguments = (
        "replay",
        str(trace),
        "--scheduler",
        "fixed",
        "--option",
        "placement=[1,1,2,2,3,3]",
    )
    shown = mecsim(*arguments).stdout
    assert "greedy" in shown
    assert "fixed" in shown
    document = answer(*arguments, "--out", str(tmp_path))
    recorded, other = document["recorded"], document["other"]
    assert isinstance(recorded, dict)
    assert isinstance(other, dict)
    assert recorded["tasks"] == other["tasks"] == 240
    assert other["reward"] != recorded["reward"]
    direct = answer("run", SCENARIO, "--set", "slots=4", "--no-trace", *arguments[2:])
    assert direct["reward"] == other["reward"]
    assert answer("replay", str(other["trace"]))["identical"] is True


def test_replay_with_the_same_scheduler(trace: Path) -> None:
    document = answer("replay", str(trace), "--scheduler", "greedy")
    recorded, other = document["recorded"], document["other"]
    assert isinstance(recorded, dict)
    assert isinstance(other, dict)
    for key in ("total_delay_s", "energy_J", "reward", "resources"):
        assert recorded[key] == other[key]


def test_profile(tmp_path: Path) -> None:
    assert "vgg16_224" in mecsim("profile", "--list").stdout
    assert "1 to 21 blocks" in mecsim("profile", "vgg16").stdout
    document = answer("profile", "vgg16", "--blocks", "3")
    assert len(document["blocks"]) == 3
    mecsim("profile", "vgg16", "--save", str(tmp_path / "mine.json"))
    scenario = tmp_path / "mine.yaml"
    scenario.write_text("dnn: {model: mine.json, blocks: 4}\nslots: 2\n", encoding="utf-8")
    mecsim("run", str(scenario), *GREEDY, "--out", str(tmp_path / "t.h5"), "--quiet")
    (tmp_path / "mine.json").unlink()  # the trace needs no other file
    assert answer("replay", str(tmp_path / "t.h5"))["identical"] is True
    assert "21" in mecsim("profile", "vgg16", "--blocks", "22", code=2).stderr
    assert "--blocks" in mecsim("profile", "vgg16", "--cut", "balanced", code=2).stderr


def test_list_of_schedulers() -> None:
    document = answer("schedulers")
    found = {each["name"]: each for each in document["schedulers"]}
    assert {"greedy", "apdi", "rpdi", "local", "edge", "fixed", "single-cut"} <= set(found)
    assert found["fixed"]["options"] == {"placement": "list[int] | dict[str, list[int]]"}
    assert all(each["summary"].endswith(".") for each in found.values())
    assert "conforms" in mecsim("schedulers", "--check", "greedy").stdout


def test_recorded_tasks_in_another_scenario(trace: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "again.yaml"
    arrivals = f"arrivals: {{process: trace, file: {trace}}}"
    scenario.write_text(f"edge_servers: 2\nslots: 4\n{arrivals}\n", encoding="utf-8")
    out = tmp_path / "t.h5"
    assert answer("run", str(scenario), *GREEDY, "--out", str(out))["tasks"] == 240
    assert answer("replay", str(out))["identical"] is True
    short = mecsim("run", str(scenario), *GREEDY, "--set", "slots=3", "--no-trace", code=2).stderr
    assert "released until 3 s" in short


def test_export_prints_its_files(trace: Path, tmp_path: Path) -> None:
    files = mecsim("export", str(trace), "--out", str(tmp_path)).stdout.split()
    assert {Path(file).name for file in files} >= {"tasks.csv", "hops.csv"}
    assert "csv, parquet" in mecsim("export", str(trace), "--format", "xls", code=2).stderr
