"""Classes of tasks in the model and the workload."""

from __future__ import annotations

from typing import Any

import numpy as np

from mecsim import Scenario
from mecsim.kernels.tables import KernelTables
from mecsim.model.model import Model, resolve
from mecsim.model.workload import Slot, chunks, slots
from mecsim.scenario.schema import Scenario as Described
from mecsim.support.arrays import Floats
from tests.helpers.builders import chain, scenario

FIRST: dict[str, Any] = {
    "name": "first",
    "dnn": chain([1, 2], [3, 4], 5, max_tolerated_delay=[6, 7]),
    "arrivals": {"process": "poisson", "rate": 3},
    "size_factor": {"distribution": "exponential"},
}
SECOND: dict[str, Any] = {
    "name": "second",
    "dnn": chain([10, 20, 30], [40, 50, 60], 70, max_tolerated_delay=8, cycles_per_flop=2),
    "arrivals": {"process": "mmpp", "rates": [1, 9], "mean_dwell": [2, 1]},
    "size_factor": {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "block"},
    "deadline": 9.0,
}


def described(*tasks: dict[str, Any], **more: Any) -> Scenario:
    base = scenario(slots=20, devices=3, **more).model_dump(mode="json")
    kept = {k: v for k, v in base.items() if k not in ("dnn", "arrivals", "size_factor")}
    return Scenario.model_validate(kept | {"tasks": list(tasks)})


def of_class(model: Model, number: int) -> list[tuple[float, int, Floats]]:
    """Release, device and size factors of the tasks of one class."""
    return [
        (release_s, device, size[: model.classes[number].blocks])
        for chunk in chunks(model, length=7)
        for release_s, device, size, class_ in zip(
            chunk.release_s.tolist(),
            chunk.device.tolist(),
            chunk.size,
            chunk.class_.tolist(),
            strict=True,
        )
        if class_ == number
    ]


def same(one: list[tuple[float, int, Floats]], other: list[tuple[float, int, Floats]]) -> bool:
    """Whether tasks are equal; a single size factor stands for all blocks."""
    return [(r, d) for r, d, _ in one] == [(r, d) for r, d, _ in other] and all(
        np.array_equal(np.broadcast_to(b, a.shape), a)
        for (_, _, a), (_, _, b) in zip(one, other, strict=True)
    )


def test_blocks_of_all_classes_are_in_one_array() -> None:
    model = resolve(described(FIRST, SECOND))
    assert model.cycles.tolist() == [1, 2, 20, 40, 60]
    assert model.input_bits.tolist() == [3, 4, 40, 50, 60]
    assert model.result_bits.tolist() == [5, 70]
    assert model.tolerated_s.tolist() == [6, 7, 8, 8, 8]
    assert model.first_block.tolist() == [0, 2, 5]
    assert model.blocks == 3
    assert [each.deadline_s for each in model.classes] == [np.inf, 9]
    tables = KernelTables.of(model)
    assert tables.bits.tolist() == [3, 4, 5, 40, 50, 60, 70]
    assert tables.class_of_block.tolist() == [0, 0, 1, 1, 1]


def test_the_model_of_a_class_is_that_of_the_class_alone() -> None:
    whole = described(FIRST, SECOND)
    own, alone = resolve(whole).of_class(1), resolve(whole.of_class(1))
    for name in ("cycles", "parameter_bytes", "input_bits", "result_bits", "tolerated_s", "route"):
        assert getattr(own, name).tolist() == getattr(alone, name).tolist()
    assert own.scenario == alone.scenario
    assert own.blocks == 3
    assert not own.cycles.flags.writeable


def test_the_first_class_draws_what_it_would_alone() -> None:
    both, alone = resolve(described(FIRST, SECOND)), resolve(described(FIRST))
    short = resolve(Described.model_validate(described(FIRST).of_class(0).model_dump(mode="json")))
    tasks = of_class(both, 0)
    assert len(tasks) > 20
    assert same(tasks, of_class(alone, 0))
    assert same(tasks, of_class(short, 0))


def test_a_class_draws_independently_of_the_others() -> None:
    other = FIRST | {
        "arrivals": {"process": "slotted", "rate": 2},
        "size_factor": SECOND["size_factor"],
    }
    before = of_class(resolve(described(FIRST, SECOND)), 1)
    assert len(before) > 20
    assert same(before, of_class(resolve(described(other, SECOND)), 1))
    twin = of_class(resolve(described(SECOND | {"name": "twin"}, SECOND)), 0)
    assert [release for release, _, _ in twin] != [release for release, _, _ in before]


def test_tasks_are_in_order_of_release_then_of_class() -> None:
    slotted = {"arrivals": {"process": "slotted", "rate": 2}}
    for slot in slots(resolve(described(FIRST | slotted, SECOND | slotted))):
        assert slot.tasks.class_.tolist() == [0, 0, 1, 1]
        assert slot.tasks.in_slot == 4
        assert slot.expected_tasks.tolist() == [2, 2]
    found = list(slots(resolve(described(FIRST, SECOND))))
    release_s = np.concatenate([slot.tasks.release_s for slot in found])
    assert (np.diff(release_s) >= 0).all()
    assert [slot.tasks.first for slot in found] == _firsts(found)
    assert np.unique(np.concatenate([s.tasks.class_ for s in found])).tolist() == [0, 1]


def _firsts(found: list[Slot]) -> list[int]:
    return np.cumsum([0, *(len(slot.tasks) for slot in found[:-1])]).tolist()


def test_expected_numbers_are_by_class() -> None:
    (slot, *_) = slots(resolve(described(FIRST, SECOND)))
    assert slot.expected_tasks.tolist() == [3, (1 * 2 + 9 * 1) / 3]
    assert slot.expected_size.tolist() == [[1, 1, 1]] * 2
