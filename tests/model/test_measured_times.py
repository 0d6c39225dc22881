"""Measured service times in place of cycles / capacity, on numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mecsim.errors import InputError
from mecsim.model.model import reseeded, resolve, self_contained
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from tests.helpers.builders import measured_lab as lab
from tests.helpers.builders import scenario, simulate

VALID = Path(__file__).parents[1] / "scenarios" / "valid"


def tasks(spec: Scenario, placement: list[int], column: str) -> list[float]:
    return simulate(spec, "fixed", {"placement": placement}).trace[f"tasks/{column}"].tolist()


@pytest.mark.parametrize(
    ("placement", "total_s", "energy_j"),
    [
        ([0, 0], 0.25 + 0.5, 2.0 + 3.0),
        # up: 100 bits at 100 bit/s and 2 W; a server computes at no cost of the device
        ([1, 1], 1.0 + 0.0625 + 0.03125, 2.0),
        ([0, 1], 0.25 + 0.5 + 0.03125, 2.0 + 1.0),
        ([1, 2], 1.0 + 0.0625 + 0.25 + 0.03125, 2.0),  # 50 bits at 200 bit/s over the wire
    ],
)
def test_delay_and_energy_are_those_measured(
    placement: list[int], total_s: float, energy_j: float
) -> None:
    assert tasks(lab(), placement, "total_s") == [total_s]
    assert tasks(lab(), placement, "energy_J") == [energy_j]


def test_power_gives_the_energy_that_was_not_measured() -> None:
    spec = lab({"joules": None}, device={"type": "board", "compute_power": 8.0})
    assert tasks(spec, [0, 0], "energy_J") == [8.0 * 0.25 + 8.0 * 0.5]


def test_size_factors_scale_times_and_energies() -> None:
    size = {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "task"}
    trace = simulate(lab(size_factor=size), "fixed", {"placement": [0, 0]}).trace
    (size_factor,) = trace["tasks/size_factor"].tolist()
    assert size_factor != 1.0
    assert trace["hops/finish_s"].tolist()[0] == 0.25 * size_factor
    assert trace["blocks/energy_J"].tolist() == [2.0 * size_factor, 3.0 * size_factor]


def test_a_node_by_formula_says_so() -> None:
    spec = lab({"flops": [1000, 3000]}, edge_server={"type": "formula", "capacity": [4e3, 8e3]})
    model = resolve(spec)
    assert model.compute.types == ("formula", "board")
    seconds = model.compute.seconds(np.arange(3)[:, None], np.ones((1, 1)))
    assert seconds[..., 0].tolist() == [[0.25, 0.125, 0.25], [0.75, 0.375, 0.5]]
    assert np.isnan(model.device_hz).all()
    assert model.server_hz.tolist() == [4e3, 8e3]


def test_seeds_change_only_capacities_by_formula() -> None:
    spec = lab(
        {"flops": [1e3, 3e3]}, edge_server={"type": "formula", "capacity": {"uniform": [1e3, 9e3]}}
    )
    model, other = resolve(spec, 1), reseeded(resolve(spec, 2), 1)
    assert model.compute.speed.tolist() == other.compute.speed.tolist()
    assert model.compute.speed[2] == 1.0


def test_times_of_a_profile_are_summed_over_the_layers_of_a_block() -> None:
    spec = load(VALID / "measured_times_of_files.yaml")
    model = resolve(spec)
    assert model.block_names == ("conv", "pool..fc")
    assert [(row["ms"], "cycles" in row) for row in model.block_table()] == [
        ({"rack": 0.5, "board": 4.0}, False),
        ({"rack": 0.25, "board": 3.5}, False),
    ]
    assert model.compute.energy_work[1].tolist() == [0.5, 0.375]


def test_a_trace_holds_the_times_and_not_the_names_of_files() -> None:
    spec = load(VALID / "measured_times_of_files.yaml")
    written = self_contained(spec)
    assert ".json" not in written.canonical_json()
    again = Scenario.model_validate_json(written.canonical_json())
    before, after = resolve(spec).compute, resolve(again).compute
    for name in ("work", "energy_work", "node_type", "joules_per_work"):
        assert getattr(before, name).tolist() == getattr(after, name).tolist()


def test_scenarios_without_measured_times_have_the_hash_of_before() -> None:
    text = scenario().canonical_json()
    assert not [key for key in ("service_times", '"type"', "compute_power", '"ms"') if key in text]
    assert all(key in lab().canonical_json() for key in ("service_times", '"type"', '"ms"'))


def test_an_option_can_return_to_the_formula() -> None:
    spec = load(VALID / "measured_times_mixed.yaml", ["dnn.service_times=formula"])
    assert resolve(spec).compute.types == ("formula",)
    assert spec.device.type is None


def test_files_must_be_of_one_network(tmp_path: Path) -> None:
    other = (VALID / "rack.json").read_text(encoding="utf-8").replace('"fc"', '"gc"')
    (tmp_path / "rack.json").write_text(other, encoding="utf-8")
    (tmp_path / "board.json").write_bytes((VALID / "board.json").read_bytes())
    (tmp_path / "lab.yaml").write_bytes((VALID / "measured_times_of_files.yaml").read_bytes())
    with pytest.raises(InputError, match=r"lab.yaml:5: dnn.service_times: .*layers.2.name"):
        resolve(load(tmp_path / "lab.yaml"))
