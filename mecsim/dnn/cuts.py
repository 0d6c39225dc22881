"""Cut a layer graph into blocks: at named layers, at stages, or balanced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

from mecsim.dnn.graph import Layer, LayerGraph, check_cuts
from mecsim.errors import ProfileError

_Plan: TypeAlias = tuple[float, float, tuple[int, ...]]
"""Sum of the blocks' squared FLOPs, bits that cross the cuts, ends of the blocks."""


@dataclass(frozen=True)
class Blocks:
    """A chain of M blocks, for one input of size factor 1."""

    names: tuple[str, ...]
    """Name of each block, from its first and last layer; length M."""
    flops: tuple[float, ...]
    """FLOPs of each block; length M."""
    parameter_bytes: tuple[float, ...]
    """d_m, size of the parameters of each block in bytes, shared ones in each; length M."""
    input_bits: tuple[float, ...]
    """I_m, size of the input of each block in bits; length M. The first is the raw input."""
    output_bits: float
    """Size of the result of the last block in bits."""
    cuts: tuple[str, ...]
    """The layers after which the chain is cut; length M - 1."""
    service_ms: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    """Measured time of each block in ms by type of node; length M each."""
    joules: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    """Measured energy of each block in J by type of node; length M each."""

    def __len__(self) -> int:
        """Return the number of blocks, M."""
        return len(self.names)

    def table(self) -> list[dict[str, Any]]:
        """Return one row for each block, at one cycle for a FLOP; ``ms`` by measured type."""
        columns = zip(self.names, self.flops, self.parameter_bytes, self.input_bits, strict=True)
        keys = ("layers", "cycles", "parameter_bytes", "input_bits")
        rows = [{"block": m} | dict(zip(keys, row, strict=True)) for m, row in enumerate(columns)]
        for m, row in enumerate(rows if self.service_ms else ()):
            row["ms"] = {node: ms[m] for node, ms in self.service_ms.items()}
        return rows


def cut_at(graph: LayerGraph, names: Sequence[str], live_tensors: int = 1) -> Blocks:
    """Cut a network after each of the named layers.

    Args:
        graph: The network.
        names: The layers, from first to last. Without any, the whole network is one block.
        live_tensors: The most tensors that may cross a cut; the input of a block is their sum.

    Returns:
        The blocks; one more than names.

    Raises:
        ProfileError: If a layer is unknown, is no legal cut, comes twice or out of order.
    """
    check_cuts(graph, names, live_tensors)
    position = {layer.name: index for index, layer in enumerate(graph.layers, start=1)}
    edges = [0, *(position[name] for name in names), len(graph.layers)]
    blocks = [graph.layers[start:stop] for start, stop in pairwise(edges)]
    results = [graph.crossing_bits(block[-1].name) for block in blocks]
    return Blocks(
        names=tuple(_block_name(block) for block in blocks),
        flops=tuple(sum(layer.flops for layer in block) for block in blocks),
        parameter_bytes=_parameter_bytes(blocks),
        input_bits=(graph.input_bits, *results[:-1]),
        output_bits=results[-1],
        cuts=tuple(names),
        service_ms=_sums(edges, {node: each.ms for node, each in graph.measured.items()}),
        joules=_sums(edges, {node: each.joules for node, each in graph.measured.items()}),
    )


def _sums(
    edges: Sequence[int], by_type: Mapping[str, tuple[float, ...] | None]
) -> dict[str, tuple[float, ...]]:
    """Sum values of layers over blocks, for each type of node that has values."""
    return {
        node: tuple(math.fsum(values[start:stop]) for start, stop in pairwise(edges))
        for node, values in by_type.items()
        if values is not None
    }


def _parameter_bytes(blocks: Sequence[Sequence[Layer]]) -> tuple[int, ...]:
    """Return the parameters of each block, bytes; shared ones count in every block that uses them.

    A layer counts only the parameters that no earlier layer has counted.
    """
    found, counted = [], set[str]()
    for block in blocks:
        shared = {name: size for layer in block for name, size in layer.shared}
        again = sum(size for name, size in shared.items() if name in counted)
        found.append(sum(layer.parameter_bytes for layer in block) + again)
        counted.update(shared)
    return tuple(found)


def cut_stages(graph: LayerGraph) -> Blocks:
    """Cut a network after the stages that its profile names.

    Args:
        graph: The network.

    Raises:
        ProfileError: If the profile names no stages.
    """
    if not graph.stages:
        raise ProfileError(
            f"model {graph.name!r} names no stages; name the cuts, or give a number of blocks"
        )
    return cut_at(graph, graph.stages)


def cut_balanced(graph: LayerGraph, blocks: int, live_tensors: int = 1) -> Blocks:
    """Cut a network into blocks whose FLOPs are as equal as the legal cuts allow.

    Exact: of all choices of legal cuts, the one with the smallest (largest block, sum of squared
    blocks, bits crossing the cuts), compared in this order; of equals, the earliest cuts.

    Args:
        graph: The network.
        blocks: Number of blocks M, from 1 to the number of legal cuts plus 1.
        live_tensors: The most tensors that may cross a cut.

    Returns:
        The blocks; length M.

    Raises:
        ProfileError: If the network does not have enough legal cuts.

    Example:
        >>> from mecsim.dnn.profile_file import load_graph
        >>> blocks = cut_balanced(load_graph("vgg16"), 3)
        >>> blocks.names
        ('conv1_1..pool2', 'conv3_1..conv4_1', 'conv4_2..fc8')
        >>> [round(flops / 1e6) for flops in blocks.flops]
        [192, 226, 209]
    """
    legal = graph.legal_cuts(live_tensors)
    if not 1 <= blocks <= len(legal) + 1:
        raise ProfileError(
            f"model {graph.name!r} cannot be cut into {blocks} blocks: it has {len(legal)} legal "
            f"cuts, so the number of blocks must be from 1 to {len(legal) + 1}"
        )
    pieces = cut_at(graph, legal, live_tensors)
    done = [0.0, *accumulate(pieces.flops)]
    chosen = _best_plan(done, pieces.input_bits, blocks, _smallest_largest(done, blocks))
    return cut_at(graph, [legal[end - 1] for end in chosen], live_tensors)


def _smallest_largest(done: list[float], blocks: int) -> float:
    """Return the FLOPs of the largest block if it is as small as possible.

    ``done[j]`` is the FLOPs of the first j pieces.
    """
    largest, unreachable = done, done[-1] + 1
    for count in range(2, blocks + 1):
        largest = [
            min((max(largest[i], end - done[i]) for i in range(count - 1, j)), default=unreachable)
            for j, end in enumerate(done)
        ]
    return largest[-1]


def _best_plan(
    done: list[float], bits: tuple[float, ...], blocks: int, limit: float
) -> tuple[int, ...]:
    """Return the ends (in pieces) of all blocks except the last, none larger than the limit.

    With the largest block bounded, the rest of the objective is a sum over the blocks, so the best
    plan for the first j pieces extends a best plan for fewer pieces.
    """
    ends = range(1, len(done))
    plans: dict[int, _Plan] = {j: (done[j] ** 2, 0, ()) for j in ends if done[j] <= limit}
    for _ in range(blocks - 1):
        extended: dict[int, _Plan] = {}
        for j in ends:
            candidates = (
                (squares + (done[j] - done[i]) ** 2, crossing + bits[i], (*chosen, i))
                for i, (squares, crossing, chosen) in plans.items()
                if i < j and done[j] - done[i] <= limit
            )
            if best := min(candidates, default=None):
                extended[j] = best
        plans = extended
    return plans[len(done) - 1][2]


def _block_name(layers: Sequence[Layer]) -> str:
    first, last = layers[0].name, layers[-1].name
    return first if first == last else f"{first}..{last}"
