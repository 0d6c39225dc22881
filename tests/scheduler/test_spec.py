"""The spec: what a scheduler knows of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mecsim.model.empty_network import Work
from mecsim.model.model import resolve
from mecsim.scheduler.spec import SchedulerSpec
from tests.helpers.builders import chain, scenario

MODEL = resolve(scenario(dnn=chain([2, 4], [1, 1]), edge_servers=2))


def test_spec_shows_a_model_with_measured_speeds() -> None:
    """A testbed's spec needs no scenario of its own: its model carries what was measured."""
    measured = replace(MODEL, server_hz=np.array([5.0, 7.0]))
    spec = SchedulerSpec(measured, np.random.default_rng(1))
    assert spec.server_hz.tolist() == [5.0, 7.0]
    work = Work(np.array([0]), np.array([0]), np.array([1.0]), np.ones((1, 1)))
    delays = spec.empty_network.delays(work)
    assert delays[1, 2, 2].tolist() == [4 / 7]  # block 1 at server 2 after block 0 there


def test_spec_of_a_run_has_the_stream_of_its_seed() -> None:
    first, again = (SchedulerSpec.of(MODEL).rng.random(3).tolist() for _ in range(2))
    other = SchedulerSpec.of(replace(MODEL, seed=MODEL.seed + 1)).rng.random(3).tolist()
    assert first == again != other


@pytest.mark.parametrize("name", ["beta", "cycles", "links", "servers"])
def test_spec_is_read_only(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(SchedulerSpec.of(MODEL), name, 1)
