"""Settings without effect are refused; what a file inherits gives way to what it says itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mecsim.errors import InputError, ScenarioError
from mecsim.paper.figure_files import load_figure
from mecsim.scenario import alternatives, shipped
from mecsim.scenario.loading import from_json, load, with_overrides
from mecsim.scenario.network import Wired
from mecsim.scenario.schema import Scenario, UniformRate
from mecsim.study.competitors import Competitor
from mecsim.study.plan import Study, plan
from mecsim.study.sweep import grid

VALID = Path(__file__).parents[1] / "scenarios" / "valid"
DEFAULT = shipped.path("vgg16_4es")
TABLE = "{flops: [1, 2], parameter_bytes: [1, 2], input_bits: [1, 2]}"
FOUR = "[[0, 0], [1 km, 0], [0, 1 km], [1 km, 1 km]]"
LINK = "edge_servers: 2\nwired: {topology: explicit, WIRED, links: [{from: 1, to: 2, LINK}]}"
CHANNEL = ("bandwidth", "noise_density", "path_loss_intercept_db", "path_loss_slope_db")


def write(folder: Path, text: str, base: str = "") -> Path:
    (folder / "base.yaml").write_text(base, encoding="utf-8")
    (folder / "f.yaml").write_text(("extends: base.yaml\n" if base else "") + text, "utf-8")
    return folder / "f.yaml"


@pytest.mark.parametrize(
    ("text", "idle", "key", "remedy"),
    [
        ("radio: {rate: 1e6, bandwidth: 5 MHz}", "radio.bandwidth", "radio.rate",
         "set radio.rate to null"),
        ("radio: {rate: 1e6, noise_density: -170 dBm/Hz}", "radio.noise_density", "radio.rate",
         "set radio.rate to null"),
        ("radio: {rate: 1e6, path_loss_intercept_db: 120}", "radio.path_loss_intercept_db",
         "radio.rate", "set radio.rate to null"),
        ("radio: {rate: 1e6, path_loss_slope_db: 30}", "radio.path_loss_slope_db", "radio.rate",
         "set radio.rate to null"),
        ("radio: {rate: {uniform: [1, 2]}, fading: rayleigh}", "radio.fading", "radio.rate",
         "set radio.rate to null"),
        ("devices: 1\ndevice: {positions: [[0, 0]], distance: [1, 2]}", "device.distance",
         "device.positions", "set device.positions to null"),
        (f"edge_server: {{positions: {FOUR}, spacing: 1 km}}", "edge_server.spacing",
         "edge_server.positions", "set edge_server.positions to null"),
        ("wired: {branching: 3}", "wired.branching", "wired.topology: full_mesh (the default)",
         "give wired.topology: tree"),
        ("wired: {topology: ring, branching: 3}", "wired.branching", "wired.topology: ring",
         "give wired.topology: tree"),
        ("wired: {topology: grid, links: [{from: 1, to: 2}]}", "wired.links",
         "wired.topology: grid", "give wired.topology: explicit"),
        (LINK.replace("WIRED", "rate: 5").replace("LINK", "rate: 1"),
         "wired.rate", "wired.links", "leave rate out in a link"),
        (LINK.replace("WIRED", "latency: 5").replace("LINK", "latency: 1"),
         "wired.latency", "wired.links", "leave latency out in a link"),
        ("arrivals: {process: trace, file: a.h5}\nsize_factor: {distribution: exponential}",
         "size_factor", "arrivals.process: trace", "recorded tasks have their own sizes"),
        (f"dnn: {{model: {TABLE}, cut: stages}}", "dnn.cut", "dnn.model",
         "name a model that can be cut"),
    ],
)  # fmt: skip
def test_setting_without_effect_in_one_file(
    text: str, idle: str, key: str, remedy: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    (line,) = str(caught.value).splitlines()
    assert re.match(rf"{re.escape(str(path))}:\d: {re.escape(idle)}: ", line)
    assert f"has no effect next to {key}" in line
    assert f"leave {idle} out, or " in line
    assert line.endswith(remedy)


def test_all_settings_without_effect_are_reported_with_other_faults(tmp_path: Path) -> None:
    text = "radio: {rate: 1e6, bandwidth: 5 MHz, fading: rayleigh}\nslotz: 5\n"
    with pytest.raises(ScenarioError) as caught:
        load(write(tmp_path, text))
    found = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert found == ["radio.bandwidth", "radio.fading", "slotz"]


@pytest.mark.parametrize(
    "text",
    [
        "radio: {rate: 1e6, fading: none}",  # says what holds anyway
        "radio: {rate: null, bandwidth: 5 MHz}",
        "radio: {rate: 1e6, transmit_power: 1 W}",  # gives the energy of a transmission
        "wired: {topology: tree, branching: 3}",
        LINK.replace("WIRED", "rate: 5").replace("LINK", "latency: 1"),
        f"dnn: {{model: {TABLE}, blocks: 2, cut: balanced}}",
    ],
)
def test_setting_with_effect(text: str, tmp_path: Path) -> None:
    load(write(tmp_path, text))


def test_transmit_power_has_an_effect_next_to_a_given_rate() -> None:
    rate = ["radio.rate=1 MB/s", "radio.transmit_power=1 W"]
    assert load(DEFAULT, rate).radio.transmit_power == 1.0


# ---------------------------------------------------------------- inherited alternatives


def test_rate_of_a_child_replaces_the_channel_of_its_parent(tmp_path: Path) -> None:
    base = "radio: {bandwidth: 5 MHz, fading: rayleigh, transmit_power: 1 W}"
    radio = load(write(tmp_path, "radio: {rate: 1 MB/s}", base)).radio
    assert (radio.rate, radio.bandwidth, radio.fading) == (8e6, 2e6, "none")
    assert radio.transmit_power == 1.0


def test_channel_of_a_child_replaces_the_rate_of_its_parent(tmp_path: Path) -> None:
    radio = load(write(tmp_path, "radio: {bandwidth: 5 MHz}", "radio: {rate: 1 MB/s}")).radio
    assert (radio.rate, radio.bandwidth) == (None, 5e6)


def test_positions_and_their_rules_replace_each_other(tmp_path: Path) -> None:
    rules = "edge_server: {spacing: 400 m}\ndevices: 1\ndevice: {distance: [1 m, 2 m]}"
    given = f"edge_server: {{positions: {FOUR}}}\ndevices: 1\ndevice: {{positions: [[0, 0]]}}"
    one = load(write(tmp_path, given, rules))
    assert one.device.distance == (310.0, 750.0)
    assert one.edge_server.spacing == 1500.0
    other = load(write(tmp_path, rules, given))
    assert (other.device.positions, other.device.distance) == (None, (1.0, 2.0))
    assert (other.edge_server.positions, other.edge_server.spacing) == (None, 400.0)


def test_table_of_blocks_replaces_the_inherited_number_and_cut(tmp_path: Path) -> None:
    dnn = load(write(tmp_path, f"dnn: {{model: {TABLE}}}", "dnn: {blocks: 6, cut: stages}")).dnn
    assert (dnn.blocks, dnn.cut) == (None, "balanced")


def test_list_of_cuts_replaces_the_inherited_number_of_blocks(tmp_path: Path) -> None:
    dnn = load(write(tmp_path, "dnn: {cut: [pool1]}", "dnn: {blocks: 6, cut: stages}")).dnn
    assert (dnn.blocks, dnn.cut) == (None, ("pool1",))
    assert load(DEFAULT, ["dnn.cut=[pool1]"]).dnn.blocks is None


def test_recorded_tasks_replace_inherited_sizes(tmp_path: Path) -> None:
    base = "size_factor: {distribution: exponential}"
    found = load(write(tmp_path, "arrivals: {process: trace, file: a.h5}", base))
    assert found.size_factor.distribution == "constant"


def test_branching_does_not_choose_a_topology(tmp_path: Path) -> None:
    """Without the inherited ring there would be the full mesh: as much without a tree."""
    path = write(tmp_path, "wired: {branching: 3}", "wired: {topology: ring}")
    with pytest.raises(ScenarioError, match=r"f\.yaml:2: wired\.branching: 3 .* ring \(.*base"):
        load(path)


def test_fault_of_a_parent_names_the_parent(tmp_path: Path) -> None:
    path = write(tmp_path, "slots: 5", "radio: {rate: 1e6, bandwidth: 5 MHz}")
    with pytest.raises(ScenarioError, match=r"base\.yaml:1: radio\.bandwidth: "):
        load(path)


# ---------------------------------------------------------------- --set and sweeps


def test_choice_of_an_option_replaces_the_alternative_of_the_file() -> None:
    default = load(DEFAULT)
    for found in (
        load(DEFAULT, ["radio.rate=1 MB/s"]),
        with_overrides(default, ["radio.rate=8e6"]),
    ):
        assert found.radio.rate == 8e6
    fast = ["radio={bandwidth: 5 MHz}", "radio.rate={uniform: [1, 2]}"]
    with pytest.raises(ScenarioError, match=r"--set radio={bandwidth: 5 MHz}: radio\.bandwidth: "):
        load(DEFAULT, fast)
    ring = load(VALID / "tree.yaml", ["wired.topology=ring"])
    assert ring.wired.branching == Wired().branching
    mesh = load(VALID / "links_explicit.yaml", ["wired.topology=full_mesh"])
    assert mesh.wired.links is None


@pytest.mark.parametrize("key", CHANNEL)
def test_option_without_effect(key: str) -> None:
    value = {"bandwidth": "5 MHz", "noise_density": "-170 dBm/Hz"}.get(key, "30")
    pattern = f"--set radio.{key}={value}: radio.{key}: .* next to radio.rate"
    with pytest.raises(ScenarioError, match=pattern):
        load(VALID / "rate_given.yaml", [f"radio.{key}={value}"])
    with pytest.raises(ScenarioError, match=pattern):
        with_overrides(load(VALID / "rate_given.yaml"), [f"radio.{key}={value}"])
    both = ["radio.rate=null", f"radio.{key}={value}"]
    assert load(VALID / "rate_given.yaml", both).radio.rate is None


def test_sweep_over_a_key_without_effect() -> None:
    def study(sweep: dict[str, list[object]], *overrides: str) -> Study:
        return Study(
            scenarios={"s": DEFAULT},
            competitors=[Competitor("greedy", "greedy")],
            seeds=[0],
            points=grid(sweep),
            overrides=overrides,
        )

    bandwidths: dict[str, list[object]] = {"radio.bandwidth": ["2 MHz", "4 MHz"]}
    assert len({trial.job.key for trial in plan(study(bandwidths))}) == 2
    with pytest.raises(InputError, match=r'radio\.bandwidth="2 MHz": .* has no effect next to'):
        plan(study(bandwidths, "radio.rate=1 MB/s"))
    with pytest.raises(InputError, match=r"wired\.branching: 2 has no effect"):
        plan(study({"wired.branching": [2, 3]}))


def test_figure_of_radio_rates_sweeps_scenarios_with_a_bandwidth() -> None:
    study = load_figure("fig13").make_study("links", quick=True, only=["greedy"])
    assert study is not None
    scenarios = [from_json(trial.job.scenario, "job") for trial in plan(study)]
    assert {each.radio.rate for each in scenarios} == {0.8 * 8e6, 2 * 8e6}


# ---------------------------------------------------------------- resolved scenarios


def test_resolved_scenario_may_have_all_keys() -> None:
    scenario = load(VALID / "rate_drawn_by_slot.yaml")
    assert isinstance(scenario.radio.rate, UniformRate)
    assert from_json(scenario.canonical_json(), "trace") == scenario
    assert with_overrides(scenario, ["slots=5"]).radio == scenario.radio


@pytest.mark.parametrize("path", sorted(VALID.glob("*.yaml")), ids=lambda path: path.stem)
def test_resolved_values_without_idle_ones_are_a_scenario(path: Path, tmp_path: Path) -> None:
    scenario = load(path)
    values = alternatives.without_idle(scenario.model_dump(mode="json"))
    again = load(write(tmp_path, yaml.safe_dump(values)))
    assert again.sha256() == scenario.sha256()


def test_topologies_are_those_of_the_schema() -> None:
    field = Scenario.model_json_schema()["$defs"]["Wired"]["properties"]["topology"]
    assert list(alternatives.TOPOLOGIES) == field["enum"]
