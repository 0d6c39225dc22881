"""Calibrations of traces whose services follow known numbers with noise."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import mecsim
from mecsim import Scenario, load, predict
from mecsim.dnn.profile_file import load_graph, write_profile
from mecsim.errors import InputError, ScenarioError, TraceError
from mecsim.kernels.hops import Hops
from mecsim.model.model import resolve
from mecsim.scenario.schema import BlockTimes
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.run import whole_scenario
from mecsim.testbed.calibrated_scenario import keys_of_dnns
from mecsim.testbed.calibration import Calibration, ServiceFit, calibrate
from mecsim.testbed.fits import Estimate
from mecsim.testbed.refusals import check_scenario
from mecsim.trace import TraceFile
from tests.helpers import cli
from tests.helpers.builders import chain, scenario
from tests.helpers.measured import FACTS, measured_trace

HEADERS, OVERHEAD_S = 0.046, 0.002
FACTORS = {"device0.cpu": 1.3, "es1.cpu": 0.8, "es2.cpu": 0.8}
PLACED: tuple[str, dict[str, Any]] = ("rpdi", {})
"""A scheduler that uses all places."""


def lab(**changes: Any) -> Scenario:
    """Three blocks whose maps take 10, 20 and 40 ms over the radio, 1 ms to 4 ms over a wire."""
    return scenario(
        **{
            "slots": 300,
            "dnn": chain([3e7, 6e7, 9e7], [1e5, 2e5, 4e5]),
            "arrivals": {"process": "poisson", "rate": 2},
            "device": {"capacity": "1 GHz"},
            "edge_server": {"capacity": "3 GHz"},
            "radio": {"rate": "10 Mbit/s"},
            "wired": {"rate": "100 Mbit/s"},
        }
        | changes
    )


def real(spec: Scenario, noise: float, seed: int = 1) -> Callable[[Hops], None]:
    """Return what adds headers and overhead to transfers, and noise to all services."""
    rng, resources = np.random.default_rng(seed), resolve(spec).resources

    def disturb(hops: Hops) -> None:
        service_s = hops.column("service_s")
        sent = hops.column("resource") >= resources.uplink
        service_s[sent] = service_s[sent] * (1 + HEADERS) + OVERHEAD_S
        service_s *= rng.lognormal(-(noise**2) / 2, noise, len(service_s))

    return disturb


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "noisy.h5"
    spec = lab()
    return measured_trace(path, spec, *PLACED, factors=FACTORS, disturb=real(spec, 0.1))


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def by_name(found: Calibration) -> dict[tuple[str, int], ServiceFit]:
    return {(each.type, each.block): each for each in found.services}


def test_known_numbers_are_recovered(noisy: Path) -> None:
    found = calibrate(noisy)
    services = by_name(found)
    assert list(services) == [(kind, block) for kind in ("server", "device") for block in range(3)]
    truths = [(services["device", m].service_s, 1.3 * 0.03 * (m + 1)) for m in range(3)]
    truths += [(services["server", m].service_s, 0.8 * 0.01 * (m + 1)) for m in range(3)]
    for fit in (found.radio, found.wired):
        assert fit is not None
        assert fit.at_bound is None
        truths += [(fit.headers, HEADERS), (fit.overhead_s, OVERHEAD_S)]
    covered = [covers(*each) for each in truths]
    assert sum(covered) >= 8  # of 10 with 95% each: fewer have a probability of 0.1%
    with TraceFile(noisy) as trace:
        release_s = np.sort(trace.read("tasks", "release_s"))
        assert found.until_s == release_s[len(release_s) // 2]
        assert found.tasks == len(release_s) // 2


@pytest.mark.slow
def test_intervals_cover_the_numbers_of_many_runs(tmp_path: Path) -> None:
    """Of 60 traces: each number is covered as often as 95% allow, to 99.9%."""
    covered = np.zeros((60, 4))
    spec = lab(slots=100)
    for seed in range(len(covered)):
        path = tmp_path / f"{seed}.h5"
        measured_trace(path, spec, *PLACED, disturb=real(spec, 0.1, seed), seed=seed)
        found = calibrate(path, first=0.8)
        assert found.radio is not None
        device, server = by_name(found)["device", 1], by_name(found)["server", 1]
        covered[seed] = [
            covers(found.radio.headers, HEADERS),
            covers(found.radio.overhead_s, OVERHEAD_S),
            covers(device.service_s, 0.06),
            covers(server.service_s, 0.02),
        ]
    assert (covered.sum(axis=0) >= 51).all()  # of 60; P(50 or fewer) is 0.03%


def test_the_calibrated_scenario_predicts_the_rest(noisy: Path) -> None:
    found = calibrate(noisy)
    before, after = predict(noisy, after_s=found.until_s), predict(noisy, found.scenario)
    assert after.from_s == after.calibrated_until_s == found.until_s
    assert after.scored == before.scored
    assert after.total.mean.error_percent is not None
    assert before.total.mean.error_percent is not None
    assert abs(after.total.mean.error_percent) < 3 < abs(before.total.mean.error_percent)
    with pytest.raises(InputError, match="the scenario was calibrated on the tasks of"):
        predict(noisy, found.scenario, after_s=0.0)


def test_without_noise_the_prediction_is_exact(tmp_path: Path) -> None:
    spec = lab(return_result=True, dnn=chain([3e7, 6e7, 9e7], [1e5, 2e5, 4e5], 3e5))
    path = measured_trace(
        tmp_path / "t.h5", spec, *PLACED, factors=FACTORS, disturb=real(spec, 0.0)
    )
    found = calibrate(path, first=0.3)
    assert found.radio is not None
    assert found.radio.headers.value == pytest.approx(HEADERS)
    assert found.radio.overhead_s.value == pytest.approx(OVERHEAD_S)
    after = predict(path, found.scenario)
    assert after.total.mape_percent == pytest.approx(0, abs=1e-6)


def test_energy_follows_the_service_times(noisy: Path) -> None:
    found = calibrate(noisy)
    own, calibrated = resolve(lab()), resolve(found.scenario)
    assert calibrated.node_types[1].name == "device"
    fitted = [by_name(found)["device", m].service_s.value for m in range(3)]
    planned = 1e-26 * 1e9**2 * own.cycles  # κ f² c
    joules = calibrated.node_types[1].joules
    assert joules == pytest.approx(planned * fitted / np.array([0.03, 0.06, 0.09]))


def test_a_block_that_never_ran_is_scaled(tmp_path: Path) -> None:
    spec = lab()
    path = measured_trace(
        tmp_path / "t.h5", spec, "fixed", {"placement": [0, 1, 1]}, factors=FACTORS
    )
    found = calibrate(path)
    fit = by_name(found)["device", 2]
    assert (fit.services, fit.service_s.low) == (0, None)
    assert fit.service_s.value == pytest.approx(1.3 * 0.09)
    assert found.wired is None
    assert found.radio is not None
    assert found.radio.one_size
    assert "headers" not in found.scenario.model_dump()["wired"]


GROUPS = {
    "edge_servers": [
        {"name": "rack", "count": 2, "capacity": "3 GHz"},
        {"name": "cloud", "radio": False, "capacity": "9 GHz"},
    ],
    "devices": [
        {"name": "phone", "count": 2, "capacity": "1 GHz", "kappa": 2e-26},
        {"name": "board", "capacity": "2 GHz"},
    ],
}


def test_groups_have_their_own_times(tmp_path: Path) -> None:
    spec = lab(**GROUPS)
    names = resolve(spec).resource_names()
    factors = {name: 2.0 if name.startswith("rack") else 1.5 for name in names[:6]}
    path = measured_trace(tmp_path / "t.h5", spec, *PLACED, factors=factors)
    found = calibrate(path)
    services = by_name(found)
    assert [kind for kind, block in services if block == 0] == ["rack", "cloud", "phone", "board"]
    for kind, base_s, factor in (("rack", 0.01, 2), ("cloud", 1 / 300, 1.5), ("board", 0.015, 1.5)):
        assert services[kind, 0].service_s.value == pytest.approx(factor * base_s)
    assert predict(path, found.scenario).total.mape_percent == pytest.approx(0, abs=1e-6)


def test_classes_have_their_own_times(tmp_path: Path) -> None:
    base = lab().model_dump(mode="json")
    own = {key: base.pop(key) for key in ("dnn", "arrivals", "size_factor")}
    other = own | {"dnn": chain([5e7, 2e7], [3e5, 1e5])}
    spec = Scenario.model_validate(base | {"tasks": [{"name": "a", **own}, {"name": "b", **other}]})
    path = measured_trace(tmp_path / "t.h5", spec, "greedy", factors=FACTORS)
    found = calibrate(path)
    rows = [(each.class_, each.block) for each in found.services if each.type == "device"]
    assert rows == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    assert [each.dnn.service_times for each in found.scenario.classes] == ["measured"] * 2
    assert predict(path, found.scenario).total.mape_percent == pytest.approx(0, abs=1e-6)


def test_calibrating_a_calibrated_scenario(noisy: Path, tmp_path: Path) -> None:
    first = calibrate(noisy).scenario
    path = measured_trace(tmp_path / "again.h5", first, *PLACED)
    again = calibrate(path)
    assert again.scenario.radio.headers == pytest.approx(first.radio.headers)
    assert again.scenario.radio.overhead == pytest.approx(first.radio.overhead)
    assert again.scenario.testbed is not None
    assert again.scenario.testbed.calibrated is not None
    assert again.scenario.testbed.calibrated.trace == "again.h5"


# ---------------------------------------------------------------- the DNN stays what it is


def with_model(**dnn: Any) -> Scenario:
    changes = {"dnn": {"model": "alexnet", "blocks": 2} | dnn, "slots": 20}
    return lab(**changes, arrivals={"process": "deterministic", "rate": 2})


def test_a_shipped_model_stays_in_the_scenario(tmp_path: Path) -> None:
    spec = with_model(cycles_per_flop=0.5)
    path = measured_trace(tmp_path / "t.h5", spec, *PLACED, factors=FACTORS)
    found = calibrate(path).scenario
    assert (found.dnn.model, found.dnn.blocks) == ("alexnet", 2)
    assert isinstance(found.dnn.service_times, BlockTimes)
    assert found.dnn.service_times.ms["device"] == pytest.approx(
        1300 * resolve(spec).compute.work[0] / 1e9
    )
    check_scenario(found)  # a testbed runs it
    one, other = (SchedulerSpec.of(resolve(each)) for each in (spec, found))
    assert feature_names(one) == feature_names(other)
    assert one.cycles.tolist() == other.cycles.tolist()
    assert predict(path, found).total.mape_percent == pytest.approx(0, abs=1e-6)


def test_a_policy_fits_the_calibrated_scenario(tmp_path: Path) -> None:
    policies = Path(mecsim.__file__).parents[1] / "results" / "policies"
    (policy, *_) = sorted(policies.glob("vgg16_loaded-mtl-a3c*.safetensors"))
    spec = load(
        "vgg16_loaded",
        ["slots=20", "edge_server.capacity=15 GHz", "size_factor={distribution: constant}"],
    )
    path = measured_trace(tmp_path / "t.h5", spec, "rpdi", factors={"es1.cpu": 1.2})
    found = calibrate(path).scenario
    result = mecsim.run(found, "mtl-a3c", {"policy": str(policy)})
    assert result.summary.scheduler == "mtl-a3c"
    assert result.summary.completed == result.summary.tasks > 0


@pytest.mark.parametrize("profile", ["same", "other", "gone"])
def test_the_profile_of_a_user_is_found_again(
    profile: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The scenario in the trace has a table of blocks in its place."""
    mine = tmp_path / "mine.json"
    graph = load_graph("alexnet")
    write_profile(graph, mine)
    given = with_model(model=str(mine), live_tensors=2)
    facts = FACTS | {"dnns": keys_of_dnns(given)}
    path = measured_trace(tmp_path / "t.h5", whole_scenario(given), *PLACED, facts=facts)
    if profile == "gone":
        mine.unlink()
    if profile == "other":
        layers = [replace(each, flops=2 * each.flops) for each in graph.layers]
        write_profile(replace(graph, layers=tuple(layers)), mine)
    with caplog.at_level(logging.WARNING, "mecsim.testbed.calibrated_scenario"):
        found = calibrate(path).scenario
    if profile == "same":
        assert found.dnn.model == str(mine)
        assert (found.dnn.blocks, found.dnn.live_tensors) == (2, 2)
        check_scenario(found)
    else:
        problem = {"other": "has other flops now", "gone": "No such file"}[profile]
        assert problem in caplog.text
        assert "the blocks of the DNN stay a table, which no testbed computes: " in caplog.text
        assert found.dnn.service_times == "measured"
    assert predict(path, found).total.mape_percent == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dnns", [[], "x", [7], [{"model": 5}], [{"cut": "x", "more": 1}]])
def test_damaged_keys_of_dnns_leave_a_table(dnns: Any, tmp_path: Path) -> None:
    path = measured_trace(tmp_path / "t.h5", lab(slots=20), *PLACED, facts=FACTS | {"dnns": dnns})
    assert calibrate(path).scenario.dnn.service_times == "measured"


def test_features_with_service_times_stay(tmp_path: Path) -> None:
    ms = {"ms": {"board": [30, 60], "rack": [10, 20]}, "joules": {"board": [1, 1]}}
    spec = with_model(service_times=ms | {"features": "compute_s"}).model_copy()
    nodes = {"device": {"type": "board"}, "edge_server": {"type": "rack"}}
    spec = Scenario.model_validate(spec.model_dump(mode="json", exclude={*nodes, "energy"}) | nodes)
    path = measured_trace(tmp_path / "t.h5", spec, *PLACED)
    found = calibrate(path).scenario
    assert isinstance(found.dnn.service_times, BlockTimes)
    assert found.dnn.service_times.features == "compute_s"
    assert found.dnn.service_times.ms.keys() == {"server", "device"}


# ---------------------------------------------------------------- refused


def test_unequal_nodes_are_refused(tmp_path: Path) -> None:
    spec = lab(edge_server={"capacity": {"repeat": ["3 GHz", "4 GHz"]}})
    path = measured_trace(tmp_path / "t.h5", spec)
    with pytest.raises(ScenarioError, match=r"^edge_server\.capacity: differs among 2 nodes"):
        calibrate(path)


def test_simulated_and_incomplete_traces_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    mecsim.run(lab(slots=2), "local", out=path)
    with pytest.raises(TraceError, match="was simulated"):
        calibrate(path)
    with pytest.raises(TraceError, match="there is no such file"):
        calibrate(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("hops/resource", 999, "holds others than 0 to"),
        ("hops/start_s", np.nan, "has no time for hops"),
        ("hops/block", 99, "names blocks that do not exist"),
        ("slots/rate_bps", 0.0, "rate_bps is not above 0 for a transfer"),
    ],
)
def test_damaged_traces_are_refused(
    name: str, value: float, problem: str, noisy: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(noisy.read_bytes())
    with h5py.File(damaged, "r+") as file:
        file[name][:] = value
    with pytest.raises(TraceError, match=problem):
        calibrate(damaged)


def test_too_few_tasks_are_refused(tmp_path: Path) -> None:
    spec = lab(slots=1, arrivals={"process": "slotted", "rate": 3})
    path = measured_trace(tmp_path / "t.h5", spec)
    with pytest.raises(InputError, match=r"none of its 3 tasks completed and was released before"):
        calibrate(path)


@pytest.mark.parametrize(("slots", "few"), [(4, True), (240, False)])
def test_few_tasks_are_reported(
    slots: int, few: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = lab(slots=slots, arrivals={"process": "deterministic", "rate": 1})
    path = measured_trace(tmp_path / "t.h5", spec, "fixed", {"placement": [0, 0, 1]})
    with caplog.at_level(logging.WARNING, "mecsim"):
        found = calibrate(path)
    assert found.tasks == slots // 2
    expected = (
        f"{path}: 2 tasks make an uncertain calibration: fewer than 30 measurements of "
        "server, block 2 (2); device, block 0 (2); device, block 1 (2); radio transfers (2). "
        "A service that is slow once in a while may be missing. "
        "Try: a longer run, or a larger --first"
    )
    assert [each.getMessage() for each in caplog.records] == [expected] * few


def test_sizes_other_than_1_are_refused(tmp_path: Path) -> None:
    spec = lab(slots=9, size_factor={"distribution": "exponential", "per": "task"})
    path = measured_trace(tmp_path / "t.h5", spec)
    with pytest.raises(InputError, match="has tasks of other sizes than 1"):
        calibrate(path)


# ---------------------------------------------------------------- the command


def test_command(noisy: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.yaml"
    text = cli.mecsim("calibrate", str(noisy), "--first", "40%", "--out", str(out)).stdout
    for expected in ("fitted to", "device, block 2", "headers (%)", "as planned", "written: "):
        assert expected in text
    cli.mecsim("check", str(out))
    written, found = load(out), calibrate(noisy, first=0.4)
    assert written == found.scenario
    scored = cli.answer("replay", str(noisy), "--scenario", str(out))
    assert scored["calibrated_until_s"] == found.until_s
    cli.mecsim("run", str(out), "--scheduler", "greedy", "--set", "slots=2")


def test_command_with_json(noisy: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.yml"
    document = cli.answer("calibrate", str(noisy), "--out", str(out))
    assert document["services"][0]["class"] == ""
    assert document["prediction"]["scored"] == document["prediction_before"]["scored"]
    assert json.loads(json.dumps(document["radio"]))["one_size"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--first", "0%"], "--first: '0%'; allowed: more than 0% and less than 100%"),
        (["--first", "100"], "--first: '100'; allowed"),
        (["--first", "nan"], "--first: 'nan'; allowed"),
        (["--first", "half"], "--first: 'half'; allowed"),
        (["--out", "c.json"], "--out c.json: allowed: a name that ends in .yaml or .yml"),
        (["--out", "no/such/c.yaml"], "no/such/c.yaml: cannot be written"),
    ],
)
def test_refused_by_the_command(
    noisy: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "no").write_text("", encoding="utf-8")
    done = cli.mecsim("calibrate", str(noisy), *arguments, code=2, cwd=tmp_path)
    assert message in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["no"]
