"""The default scenario is at the scale of the paper."""

from __future__ import annotations

import pytest

from mecsim import run

PUBLISHED = -18_300.0
"""Reward of MTL-A3C in Fig. 6."""


@pytest.mark.parametrize("seed", range(3))
def test_the_shipped_policy_reaches_the_published_reward(seed: int) -> None:
    summary = run("vgg16_4es", seed=seed, kernel="compiled").summary
    assert summary.scheduler == "mtl-a3c"
    assert summary.reward == pytest.approx(PUBLISHED, rel=0.07)
    assert summary.completed == 36_000
