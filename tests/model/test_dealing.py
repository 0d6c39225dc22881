"""Which devices release the tasks of a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.errors import ScenarioError
from mecsim.model.dealing import Dealing
from mecsim.model.model import resolve
from mecsim.model.workload import slots
from mecsim.scenario.loading import validate
from mecsim.scenario.yaml_source import Document
from mecsim.scheduler.spec import SchedulerSpec
from tests.helpers.builders import chain, scenario, simulate

GROUP = np.array([0, 0, 1, 2, 2, 2])


def test_without_weights_devices_take_turns() -> None:
    dealing = Dealing(GROUP, ())
    assert dealing.in_turn(np.arange(5, 9)).tolist() == [5, 0, 1, 2]
    assert dealing.drawn(np.array([0.0, 0.5, 0.999])).tolist() == [0, 3, 5]
    assert dealing.devices.tolist() == [0, 1, 2, 3, 4, 5]


def test_groups_take_turns_by_weight() -> None:
    """Weights 1, 0, 2: a pattern of three tasks, by hand. Each group deals to its own in turn."""
    dealing = Dealing(GROUP, (0.5, 0.0, 1.0))
    assert dealing.in_turn(np.arange(9)).tolist() == [3, 0, 4, 5, 1, 3, 4, 0, 5]
    assert dealing.in_turn(np.arange(4, 9)).tolist() == [1, 3, 4, 0, 5]
    assert dealing.devices.tolist() == [0, 1, 3, 4, 5]


def test_devices_are_drawn_by_weight() -> None:
    """A quarter of [0, 1) for the two devices of group 0, the rest for the three of group 2."""
    dealing = Dealing(GROUP, (1.0, 0.0, 3.0))
    uniform = np.array([0.0, 0.124, 0.126, 0.249, 0.251, 0.499, 0.501, 0.751, 1 - 2**-53])
    assert dealing.drawn(uniform).tolist() == [0, 0, 1, 1, 3, 3, 4, 5, 5]
    found = np.bincount(dealing.drawn(np.arange(8000) / 8000), minlength=6)
    assert np.abs(found - [1000, 1000, 0, 2000, 2000, 2000]).max() <= 1


def described(weights: Any, process: str = "slotted", **more: Any) -> dict[str, Any]:
    base = scenario(
        slots=3,
        devices=[{"name": "phone", "count": 2}, {"name": "camera"}, {"name": "car", "count": 3}],
        **more,
    ).model_dump(mode="json")
    for name in ("dnn", "arrivals", "size_factor"):
        del base[name]
    arrivals = {"process": process, "rate": 6}
    some = {"name": "some", "dnn": chain([1], [1]), "arrivals": arrivals, "devices": weights}
    return base | {"tasks": [some, {"name": "all", "dnn": chain([2, 2], [1, 1])}]}


@pytest.mark.parametrize("process", ["slotted", "deterministic", "poisson"])
def test_tasks_come_from_the_groups_of_their_class(process: str) -> None:
    model = resolve(Scenario.model_validate(described({"phone": 1, "car": 2}, process)))
    tasks = [slot.tasks for slot in slots(model)]
    device = np.concatenate([each.device for each in tasks])
    class_ = np.concatenate([each.class_ for each in tasks])
    assert set(device[class_ == 0].tolist()) <= {0, 1, 3, 4, 5}
    assert set(device[class_ == 1].tolist()) == {0, 1, 2, 3, 4, 5}
    if process != "poisson":
        assert np.bincount(device[class_ == 0]).tolist() == [3, 3, 0, 4, 4, 4]


def test_an_observation_is_of_the_devices_of_the_class() -> None:
    spec = Scenario.model_validate(described({"camera": 1}))
    own, every = SchedulerSpec.of(resolve(spec)).classes
    assert (own.releasing.tolist(), own.every_device) == ([2], False)
    assert (len(every.releasing), every.every_device) == (6, True)
    for kernel in ("simpy", "compiled"):
        found = simulate(spec, "single-cut", kernel=kernel).trace
        assert set(found["tasks/device"][found["tasks/class"] == 0].tolist()) == {2}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"tv": 1}, r"tasks\.0\.devices\.tv: is no group of devices; allowed: phone, camera, car"),
        ({"phone": 0}, r"tasks\.0\.devices: leaves the class without a device"),
        ({}, r"tasks\.0\.devices: leaves the class without a device"),
        ({"phone": -1}, r"tasks\.0\.devices\.phone: -1 should be"),
        ({"phone": float("nan")}, r"tasks\.0\.devices\.phone: .nan should be"),
        ({"phone": 1, "car": 0.1234567}, r"tasks\.0\.devices: has weights whose pattern has 11,23"),
        ([1], r"tasks\.0\.devices: \[1\] should be"),
    ],
)
def test_wrong_weights_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        validate(Document(described(weights)))


def test_weights_need_groups() -> None:
    with pytest.raises(ScenarioError, match=r"tasks\.0\.devices: needs groups; give devices as a"):
        validate(Document(described({"phone": 1}) | {"devices": 4}))
