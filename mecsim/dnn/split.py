"""Splits a PyTorch module at cuts into blocks that compute exactly what the whole module computes.

The module is traced as its profile was (`mecsim.dnn.profiler`), and each block runs the operations
of its layers. What crosses a cut is what the profile says: the tensors that are live there. Before
blocks are returned, their chain has computed an example: its result has the same bits as that of
the whole.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from mecsim.dnn import cuts as dnn_cuts
from mecsim.dnn.block_graphs import BlockGraph, Division, Recorder, TensorSpec
from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.profiler import count_layers
from mecsim.dnn.tracing import trace
from mecsim.errors import ProfileError
from mecsim.support.arrays import Floats
from mecsim.support.text import error_line

Tensors = tuple[torch.Tensor, ...]


class Block:
    """Some consecutive layers of a module.

    A block runs in inference mode. It may change the tensors that it takes. Tensors that it gives
    may be views, or have other strides than contiguous ones; a block takes either, with the same
    result.
    """

    def __init__(self, name: str, graph: BlockGraph) -> None:
        self.name = name
        """Its first and last layer."""
        self.inputs = _specs(graph, "takes")
        """What it takes: the raw input as it is stored, or what the block before gives."""
        self.outputs = _specs(graph, "gives")
        """What it gives."""
        self._run, self._takes = graph.run, graph.takes

    def __call__(self, tensors: Iterable[torch.Tensor]) -> Tensors:
        """Compute what the block gives.

        Args:
            tensors: As `inputs` says.

        Returns:
            As `outputs` says.
        """
        given = iter(tensors)
        with torch.inference_mode():
            return tuple(_tensors(self._run(*(each.of(given) for each in self._takes))))


def _specs(graph: BlockGraph, side: str) -> tuple[TensorSpec, ...]:
    return tuple(spec for crossing in getattr(graph, side) for spec in crossing.specs)


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested tuples, lists and mappings."""
    return (each for each in pytree.tree_leaves(value) if isinstance(each, torch.Tensor))


def blocks_of(
    module: nn.Module,
    input_shape: Sequence[int],
    cuts: Sequence[str],
    *,
    raw_type: str = "float32",
    input_type: str | None = None,
) -> tuple[Block, ...]:
    """Split a module after layers of its profile.

    Args:
        module: A module whose ``forward`` takes one tensor. It is put into evaluation mode, and the
            blocks share its parameters.
        input_shape: Shape of one raw input, without the batch dimension.
        cuts: The layers after which to cut, from first to last; any number of tensors may cross.
        raw_type: Type of the numbers of a raw input as it is stored and sent: uint8 for images.
        input_type: Type of the numbers that the module takes; by default that of its parameters.
            The first block converts.

    Returns:
        The blocks; one more than cuts.

    Raises:
        ProfileError: If the module cannot be traced or run, a layer is no cut, or the blocks would
            compute something else than the whole module.
    """
    shape, kind = tuple(input_shape), _dtype(input_type)
    module.eval()
    layers, owners = count_layers(module, shape, kind)
    stored = raw_input(shape, raw_type, input_type)
    graph = LayerGraph("module", shape, 8 * TensorSpec.of(stored).bytes, layers)
    planned = dnn_cuts.cut_at(graph, cuts, live_tensors=len(layers) + 1)
    like = next(module.parameters(), torch.zeros(()))
    with torch.no_grad():
        x = stored.to(kind or like.dtype, copy=True)
        traced = trace(module, x)
        try:
            run = Recorder(traced)
            whole = list(_tensors(run.run(x)))
        except Exception as error:  # running a module runs the user's code
            raise ProfileError(f"fails on an example: {error_line(error)}") from error
        owned = _block_of_each(layers, owners, planned)
        division = Division(traced, run, owned, len(planned), stored)
        blocks = tuple(Block(name, division.block(m)) for m, name in enumerate(planned.names))
    _check_sizes(blocks, planned)
    _check_chain(blocks, stored, whole)
    return blocks


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else getattr(torch, name)


def _block_of_each(
    layers: Sequence[Layer], owners: Mapping[str, str], planned: dnn_cuts.Blocks
) -> dict[str, int]:
    """Return the block of each operation by its name."""
    position = {layer.name: index for index, layer in enumerate(layers)}
    ends = [position[cut] for cut in planned.cuts]
    return {operation: bisect_left(ends, position[layer]) for operation, layer in owners.items()}


def _check_sizes(blocks: Sequence[Block], planned: dnn_cuts.Blocks) -> None:
    """Raise unless the tensors that cross have the sizes that the model computes with."""
    expected = [*planned.input_bits, planned.output_bits]
    crossing = [*(block.inputs for block in blocks), blocks[-1].outputs]
    for number, (specs, bits) in enumerate(zip(crossing, expected, strict=True)):
        if (found := 8 * sum(spec.bytes for spec in specs)) != bits:
            where = f"after {planned.cuts[number - 1]!r}" if number < len(blocks) else "at the end"
            raise ProfileError(
                f"has tensors of {found:,} bits {where}, but {bits:,.0f} by its profile. "
                "Try: another cut"
            )


def _check_chain(
    blocks: Sequence[Block], stored: torch.Tensor, whole: Sequence[torch.Tensor]
) -> None:
    """Raise unless the chain of blocks gives the bits of the whole module."""
    tensors: Tensors = (stored,)
    for block in blocks:
        tensors = block(each.clone(memory_format=torch.contiguous_format) for each in tensors)
    if [_bits(each) for each in tensors] != [_bits(each) for each in whole]:
        raise ProfileError(
            "computes something else in blocks: its result is random, or it changes tensors in "
            "place that several layers read. Try: operations that are not in place, or other cuts"
        )


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def raw_input(
    input_shape: Sequence[int], raw_type: str, input_type: str | None = None
) -> torch.Tensor:
    """Return an example of a raw input as it is stored, always the same.

    Args:
        input_shape: Its shape without the batch dimension.
        raw_type: Type of its numbers.
        input_type: Type of the numbers that the module takes, see :func:`blocks_of`.

    Returns:
        Random numbers; zeros where the module takes integers, which any embedding accepts. Shape
        (1, *input_shape).
    """
    shape, kind = (1, *input_shape), getattr(torch, raw_type)
    generator = torch.Generator().manual_seed(0)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind)
    if input_type is None or getattr(torch, input_type).is_floating_point:
        return torch.randint(0, 256, shape, generator=generator).to(kind)
    return torch.zeros(shape, dtype=kind)


def block_seconds(
    blocks: Sequence[Block],
    stored: torch.Tensor,
    *,
    passes: int = 9,
    warm_up: int = 1,
    cpu_time: bool = False,
) -> Floats:
    """Measure how long each block takes on this machine, in passes through the whole chain.

    PyTorch uses as many threads as it is set to.

    Args:
        blocks: The M blocks of a module.
        stored: A raw input, see :func:`raw_input`.
        passes: Passes that count.
        warm_up: Passes before the first that counts.
        cpu_time: Measure the processor time of this thread, so that the time that other programs
            take does not count. PyTorch should be set to one thread.

    Returns:
        Elapsed seconds, or those of the processor; shape (passes, M).
    """
    clock = time.thread_time_ns if cpu_time else time.perf_counter_ns
    found = np.empty((warm_up + passes, len(blocks)))
    for row in found:
        tensors: Tensors = (stored,)
        for number, block in enumerate(blocks):
            start = clock()
            tensors = block(tensors)
            row[number] = (clock() - start) / 1e9
    return found[warm_up:]
