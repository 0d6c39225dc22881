"""The links of a model whose rates the kernel can shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from mecsim.errors import InputError
from mecsim.model.model import KINDS, Model
from mecsim.support.arrays import Ints
from mecsim.testbed.shaping import ShapedLink

LEAST_BPS: Final = 8000.0
"""Lowest rate: the kernel rounds rates to whole bytes per second."""


def check_rates(model: Model) -> None:
    """Raise `InputError` if the rate of any link is not one constant."""
    varies = model.radio_draws.vary.copy()
    for resources, _ in model.series:
        radio = resources[
            (model.resources.uplink <= resources) & (resources < model.resources.link)
        ]
        varies[(radio - model.resources.uplink) % model.devices] = True
        if (resources >= model.resources.link).any():
            raise _refused(f"the rate of {_named(model, resources)} changes over time")
    if varies.any():
        device = int(np.flatnonzero(varies)[0])
        raise _refused(f"the radio rate of device {device} changes from slot to slot")
    timed = np.flatnonzero(model.calendars.of["timed"])  # none without calendars
    links = timed[timed >= model.resources.uplink]
    if len(links):
        raise _refused(f"the rate of {_named(model, links)} changes over time")


def _refused(problem: str) -> InputError:
    return InputError(
        f"--links tbf: {problem}. Expected: constant rates of all links. Try: --links pacing"
    )


def _named(model: Model, resources: Ints) -> str:
    number = int(resources[resources >= model.resources.uplink][0])
    return f"{KINDS[model.resources.kind[number]]} (resource {number})"


def shaped_links(model: Model, stretch: float, names: Sequence[str]) -> list[ShapedLink]:
    """Return the directed links of a model over which maps are sent.

    Args:
        model: The scenario, with constant rates.
        stretch: Real seconds for one second of the scenario.
        names: Names of the nodes: servers, then devices; length N + D.

    Raises:
        InputError: If a rate is too low.
    """
    links, servers, devices = model.links, names[: model.servers], names[model.servers :]
    rate_bps = model.radio_draws.first()
    wired = zip(links.source.tolist(), links.target.tolist(), links.rate_bps.tolist(), strict=True)
    found = [(servers[i], servers[j], rate) for i, j, rate in wired]
    for device, server in _served(model):
        rate, ends = float(rate_bps[device]), (devices[device], servers[server])
        found += [(*ends, rate), (*ends[::-1], rate)]
    for source, target, rate in found:
        if rate / stretch < LEAST_BPS:
            raise InputError(
                f"--links tbf: the rate from {source} to {target} is {rate / stretch:g} bit/s, "
                f"stretch included. Allowed: at least {LEAST_BPS:g} bit/s. Try: a lower --stretch"
            )
    return [ShapedLink(source, target, rate / 8 / stretch) for source, target, rate in found]


def _served(model: Model) -> Iterator[tuple[int, int]]:
    """Yield each device with each server that it has in the run."""
    pairs = set(enumerate(model.serving_server.tolist()))
    if model.mobility is not None:
        pairs |= set(enumerate(model.mobility.start.tolist()))
        moves = model.mobility.device.tolist(), model.mobility.server.tolist()
        pairs |= set(zip(*moves, strict=True))
    yield from sorted(pairs)
