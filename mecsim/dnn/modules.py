"""Finds the PyTorch module of a profile: a shipped one, or one that the user names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import nn

from mecsim.dnn.factory import load_factory
from mecsim.dnn.graph import LayerGraph
from mecsim.dnn.profile_file import difference, load_graph, shipped
from mecsim.dnn.profiler import INPUT_TYPES, profile_module
from mecsim.dnn.split import Block, blocks_of, raw_input
from mecsim.dnn.zoo import MODELS
from mecsim.errors import ProfileError
from mecsim.support.text import did_you_mean

OPTION: Final = "--module"
"""The option of the command line that names modules."""


@dataclass(frozen=True)
class ModuleSource:
    """How to make the module of a profile again, perhaps in another process; plain values."""

    factory: str
    """A shipped model's name, ``package.module:factory`` or ``path/file.py:factory``."""
    input_shape: tuple[int, ...]
    """Shape of one raw input, without the batch dimension."""
    raw_type: str
    """Type of the numbers of a raw input as it is stored and sent."""
    input_type: str | None
    """Type of the numbers that the module takes, None for that of its parameters."""

    def build(self) -> nn.Module:
        """Return the module, with the initial weights of seed 0.

        Raises:
            ProfileError: If the factory cannot be imported, raises, or does not return a module.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return (
                MODELS[self.factory].build()
                if self.factory in MODELS
                else load_factory(self.factory)
            )

    def blocks(self, cuts: Sequence[str]) -> tuple[Block, ...]:
        """Return the blocks of the module, see :func:`mecsim.dnn.split.blocks_of`.

        Args:
            cuts: The layers after which to cut.

        Raises:
            ProfileError: If the module cannot be made or split.
        """
        try:
            return blocks_of(
                self.build(),
                self.input_shape,
                cuts,
                raw_type=self.raw_type,
                input_type=self.input_type,
            )
        except ProfileError as error:
            raise ProfileError(f"{self.factory}: {error}") from error

    def raw_input(self) -> torch.Tensor:
        """Return an example of a raw input, see :func:`mecsim.dnn.split.raw_input`."""
        return raw_input(self.input_shape, self.raw_type, self.input_type)


def modules_for(graphs: Sequence[LayerGraph], given: Sequence[str] = ()) -> list[ModuleSource]:
    """Return the module of each of some profiles.

    Args:
        graphs: The profiles.
        given: Texts ``NAME=FACTORY``: name of a model, and where its module is from. They go before
            shipped modules. Factories run the user's code.

    Raises:
        ProfileError: If a text names no model, or a factory's module has other layers than the
            profile, or a profile has neither a factory nor the layers of a shipped model.
    """
    factories = _factories(given, [graph.name for graph in graphs])
    found: list[ModuleSource] = []
    for number, graph in enumerate(graphs):
        if (earlier := graphs.index(graph)) < number:
            found.append(found[earlier])
        elif graph.name in factories:
            found.append(_given(graph, factories[graph.name]))
        else:
            found.append(_shipped(graph))
    return found


def _factories(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the factory of each model by its name."""
    found: dict[str, str] = {}
    for text in given:
        name, _, factory = text.partition("=")
        if not name or not factory:
            allowed = "NAME=package.module:factory or NAME=file.py:factory"
            raise ProfileError(f"{OPTION} {text}: names no model; allowed: {allowed}")
        if name not in names:
            hint = f"{did_you_mean(name, names)}allowed: {', '.join(dict.fromkeys(names))}"
            raise ProfileError(f"{OPTION} {text}: no tasks run a model {name!r}; {hint}")
        if name in found:
            raise ProfileError(
                f"{OPTION} {text}: {name!r} is given twice; allowed: each model once"
            )
        found[name] = factory
    return found


def _shipped(graph: LayerGraph) -> ModuleSource:
    """Return the shipped module that has the layers of a profile."""
    for name in shipped():
        known = load_graph(name)
        if difference(replace(known, input_bits=graph.input_bits), graph) is None:
            raw_type = next(t for t in _raw_types(graph) if t == "uint8" or _floating(t))
            return ModuleSource(name, graph.input_shape, raw_type, None)
    raise ProfileError(
        f"model {graph.name!r}: no module is known. It has the layers of no shipped model "
        f"({', '.join(shipped())}). Try: {OPTION} {graph.name}=package.module:factory, or "
        f"{graph.name}=file.py:factory"
    )


def _floating(name: str) -> bool:
    return bool(getattr(torch, name).is_floating_point)


def _given(graph: LayerGraph, factory: str) -> ModuleSource:
    """Return the module of a factory. Raises ``ProfileError`` unless it has the profile's layers.

    A profile does not say of which type the input is, only how many bits it has. So the types of
    that size are tried.
    """
    where = f"{OPTION} {graph.name}={factory}"
    try:
        module = load_factory(factory)
    except ProfileError as error:
        raise ProfileError(f"{OPTION} {graph.name}: {error}") from error
    failure, other = "", ""
    for raw_type in _raw_types(graph):
        for input_type in (raw_type, None):
            source = ModuleSource(factory, graph.input_shape, raw_type, input_type)
            try:
                found = _profile(module, source, graph)
            except ProfileError as error:
                failure = str(error)
                continue
            if (unlike := difference(found, graph)) is None:
                return source
            other = other or unlike
    if other:
        raise ProfileError(
            f"{where}: the module is not the one of the profile: {other} in the module. "
            f"Try: `mecsim profile {factory} --save FILE` writes the profile of this module"
        )
    raise ProfileError(f"{where}: {failure}")


def _profile(module: nn.Module, source: ModuleSource, graph: LayerGraph) -> LayerGraph:
    return profile_module(
        module,
        source.input_shape,
        graph.name,
        input_type=source.input_type,
        input_bits=graph.input_bits,
    )


def _raw_types(graph: LayerGraph) -> list[str]:
    """Return the types of numbers that a raw input may have, by its size."""
    numbers = math.prod(graph.input_shape)
    found = [t for t in INPUT_TYPES if 8 * getattr(torch, t).itemsize * numbers == graph.input_bits]
    if not found:
        shape = "x".join(map(str, graph.input_shape))
        raise ProfileError(
            f"model {graph.name!r}: input_bits: {graph.input_bits} is not the size of a tensor of "
            f"{shape} numbers; allowed: 8, 16, 32 or 64 bits for each"
        )
    return found
