"""Service times and energies of blocks by type of node, on numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mecsim.model.compute_table import ComputeTable, compute_table
from mecsim.model.node_types import BY_FORMULA

MIXED = ComputeTable(
    servers=2,
    types=("formula", "board"),
    node_type=np.array([0, 1, 1, 0]),  # two servers, two devices
    work=np.array([[6e9, 3e9], [0.25, 0.5]]),
    speed=np.array([3e9, 1.0, 1.0, 2e9]),
    energy_work=np.array([[6e9, 3e9], [0.75, 1.5]]),
    joules_per_work=np.array([0.0, 0.0, 1.0, 4e-8]),
)
"""A mixture of nodes by formula and of measured ones."""


def test_formula_is_cycles_over_hertz_and_kappa_f_squared() -> None:
    table = compute_table(
        (BY_FORMULA,),
        np.zeros(3, dtype=np.int64),
        cycles=np.array([6e9, 3e9]),
        server_hz=np.array([3e9]),
        device_hz=np.array([1e9, 2e9]),
        kappa=np.full(2, 1e-26),
        compute_power_w=np.full(2, np.nan),
    )
    seconds = table.seconds(np.array([[0], [1], [2]]), np.array([[2.0]]))
    assert seconds[..., 0].tolist() == [[4.0, 12.0, 6.0], [2.0, 6.0, 3.0]]
    # 1e-26 · (1e9)² = 1e-8 J a cycle, 1e-26 · (2e9)² = 4e-8
    assert table.joules_per_work == pytest.approx([0.0, 1e-8, 4e-8], rel=1e-15)


def test_each_node_has_the_work_of_its_type() -> None:
    seconds = MIXED.seconds(np.arange(4)[:, None], np.array([[1.0], [2.0]]))
    # block 0: 6e9 / 3e9, 0.25, 0.25, 6e9 / 2e9; block 1 has size factor 2: 6e9 / 3e9, 1, 1, 3
    assert seconds[..., 0].tolist() == [[2.0, 0.25, 0.25, 3.0], [2.0, 1.0, 1.0, 3.0]]


def test_mean_over_types_is_the_mean_of_the_seconds() -> None:
    work, speed = MIXED.mean_of(np.array([2, 3]))
    assert work / speed == pytest.approx([(0.25 + 3.0) / 2, (0.5 + 1.5) / 2], rel=1e-15)


def test_mean_over_one_type_has_its_work_and_the_harmonic_mean_of_speeds() -> None:
    work, speed = MIXED.mean_of(np.array([0, 3]))
    assert work.tolist() == [6e9, 3e9]
    assert speed == pytest.approx(2.4e9, rel=1e-15)  # 2 / (1/3 + 1/2)


def test_pooled_nodes_share_the_work() -> None:
    work, speed = MIXED.pooled(np.array([0, 1]), np.array([2, 1]))
    # a task takes 3 s at a core of the first, 0.75 s at the second: 2/3 + 4/3 = 2 tasks a second
    assert speed / work == pytest.approx(2.0, rel=1e-15)


def test_pooled_nodes_of_a_type_without_work_take_no_time() -> None:
    kinds, work = np.array([0, 1]), np.array([[2.0], [0.0]])
    idle = ComputeTable(2, ("a", "b"), kinds, work, np.ones(2), work, np.zeros(2))
    most, speed = idle.pooled(kinds, np.ones(2, dtype=np.int64))
    assert most / speed == 0.0


def test_mean_over_places_is_that_of_the_seconds() -> None:
    speed, networks = np.stack([MIXED.speed, MIXED.speed * [2.0, 1.0, 1.0, 0.5]]), np.array([0, 1])
    # servers 6e9 / 3e9 and 0.25, device 1 (the second) 6e9 / 2e9; then twice and half the speed
    own = MIXED.mean_over_places(speed, networks, np.array([1, 1]))
    assert own[:, 0] == pytest.approx([(2 + 0.25 + 3) / 3, (1 + 0.25 + 6) / 3], rel=1e-15)
    mean = MIXED.mean_over_places(speed, networks, np.array([-1, -1]))
    assert mean[0] == pytest.approx([(2.25 + 3.25 / 2) / 3, (1.5 + 2.0 / 2) / 3], rel=1e-15)
