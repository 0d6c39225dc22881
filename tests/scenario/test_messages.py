"""Messages about scenarios: everything at once, with what was meant and what is allowed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mecsim.errors import ScenarioError
from mecsim.model.model import resolve
from mecsim.scenario import shipped
from mecsim.scenario.loading import load

DEFAULT = shipped.path("vgg16_4es")


def write(folder: Path, text: str) -> Path:
    (folder / "f.yaml").write_text(text, encoding="utf-8")
    return folder / "f.yaml"


def lines_about(folder: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(write(folder, text))
    return str(caught.value).splitlines()


def test_all_unknown_keys_are_told_at_once(tmp_path: Path) -> None:
    text = (
        "slotz: 5\nqos: high\nslots: 0\n"
        "radio:\n  bandwith: 5 MHz\n  fadin: none\n"
        "arrivals: {process: poisson, rate: 5, rates: 3}\n"
        "edge_server: {capacity: {repeat: [1], of: 3}}\n"
        "wired: {topology: explicit, links: [{from: 1, to: 2, wide: 3}]}\n"
    )
    told = [":".join(line.split(":")[1:3]) for line in lines_about(tmp_path, text)]
    assert sorted(told) == [
        "1: slotz", "2: qos", "3: slots", "5: radio.bandwith", "6: radio.fadin",
        "7: arrivals.rates", "8: edge_server.capacity.of", "9: wired.links.0.wide",
    ]  # fmt: skip


def test_extends_is_among_the_allowed_keys(tmp_path: Path) -> None:
    (line,) = lines_about(tmp_path, "extend: base.yaml")
    assert "did you mean 'extends'? allowed: extends, description, slots, " in line
    with pytest.raises(ScenarioError, match="extends: can only be given in a file"):
        load(write(tmp_path, "slots: 5"), ["extends=base.yaml"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slots: 0", "0 should be from 1 to 10000000"),
        ("slots: 10000001", "10000001 should be from 1 to 10000000"),
        ("edge_server: {cores: 0}", "0 should be from 1 to 1024"),
        ("dnn: {blocks: 0}", "0 should be at least 1"),
        ("radio: {bandwidth: 0}", "0 should be from 1e-30 to 1e+30"),
        ("radio: {bandwidth: 1e31}", "1e+31 should be from 1e-30 to 1e+30"),
        ("radio: {path_loss_slope_db: -1}", "-1 should be from 0 to 500"),
        ("reward: {beta: -1}", "-1 should be from 0 to 1e+30"),
        ("size_factor: {distribution: lognormal, sigma: 0}", "0 should be above 0 and at most 5"),
        ("arrivals: {process: slotted, rate: 2e7}", "20000000.0 should be from 0 to 1e+07"),
    ],
)
def test_range_errors_name_both_bounds(text: str, words: str, tmp_path: Path) -> None:
    (line,) = lines_about(tmp_path, text)
    assert line.endswith(words)


def test_integers_may_have_an_exponent(tmp_path: Path) -> None:
    scenario = load(write(tmp_path, "slots: 1.2e+3\ndevices: 40.0"))
    assert (scenario.slots, scenario.devices) == (1200, 40)
    assert type(scenario.slots) is int


def test_nearest_names_of_layers_are_suggested() -> None:
    with pytest.raises(Exception, match=r"no such layer; did you mean 'conv1_1' or 'conv1_2'\?"):
        resolve(load(DEFAULT, ["dnn.cut=[conv1]"]))


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["dnn.blocks=5"], "allowed: 6, or null .* For another number give cut: balanced"),
        (["dnn.model={flops: [1], parameter_bytes: [1], input_bits: [1]}", "dnn.blocks=6"],
         "table of blocks, which makes 1 blocks; allowed: 1, or null for .* it makes$"),
    ],
)  # fmt: skip
def test_advice_about_the_number_of_blocks_can_be_followed(
    overrides: list[str], advice: str
) -> None:
    with pytest.raises(ScenarioError, match=advice):
        resolve(load(DEFAULT, overrides))
    resolve(load(DEFAULT, [*overrides, "dnn.blocks=null"]))


def test_description_is_not_inherited(tmp_path: Path) -> None:
    write(tmp_path, "description: The base.\nslots: 5\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: f.yaml\n", encoding="utf-8")
    assert load(child).description == ""
    assert load(child).sha256() == load(tmp_path / "f.yaml").sha256()
    child.write_text("extends: f.yaml\ndescription: The child.\n", encoding="utf-8")
    assert load(child).description == "The child."


# ---------------------------------------------------------------- a power without unit


def test_power_that_was_likely_meant_in_decibels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "slots: 5\nradio: {transmit_power: 22}\n")
    assert load(path).radio.transmit_power == 22.0
    load(path)
    (record,) = caplog.records  # once, however often a comparison loads it
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"{path}:2: radio.transmit_power: 22 without a unit is 22 W, and devices send with less "
        "than 5 W; write '22 dBm' or '22 W'"
    )
    load(DEFAULT, ["radio.transmit_power='23'"])
    assert "--set radio.transmit_power='23'" in caplog.records[1].getMessage()


def test_power_of_a_group_that_was_likely_meant_in_decibels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(write(tmp_path, "slots: 5\ndevices: [{name: phone}, {name: car, transmit_power: 33}]\n"))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path / 'f.yaml'}:2: devices.1.transmit_power: 33 without a unit is 33 W, and "
        "devices send with less than 5 W; write '33 dBm' or '33 W'"
    )


@pytest.mark.parametrize("power", ["22 W", "22 dBm", "0.2", "5"])
def test_power_that_is_clear(power: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(write(tmp_path, f"radio: {{transmit_power: {power}}}\n"))
    assert caplog.records == []


@pytest.mark.parametrize("key", ["failures.0.work=lost", "devices.0.count=3"])
def test_an_entry_of_a_list_that_is_not_there(key: str) -> None:
    name = key.partition(".")[0]
    with pytest.raises(ScenarioError, match=rf"^--set {key}: {name}: has no entry 0.*{name}=\[\{{"):
        load("vgg16_4es", [key])
