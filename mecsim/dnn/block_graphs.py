"""Divides the operations of a traced module among blocks, and builds the graph of each block."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import fx
from torch.utils import _pytree as pytree

from mecsim.dnn.operations import Meter, data_path

_FROM_OUTSIDE: Final = -1
"""The block of the raw input."""


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of a tensor that a block takes or gives."""

    dtype: str
    """Name of the type in PyTorch: ``float32``."""
    shape: tuple[int, ...]
    """Shape with the batch dimension."""

    @property
    def bytes(self) -> int:
        """Size of its numbers."""
        return math.prod(self.shape) * int(getattr(torch, self.dtype).itemsize)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorSpec:
        """Return type and shape of a tensor."""
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


class Crossing:
    """What one operation gives to later blocks: a tensor, or several in tuples, lists, mappings.

    Args:
        value: What it was for an example.
    """

    def __init__(self, value: Any) -> None:
        leaves, self._structure = pytree.tree_flatten(value)
        self._parts = [_Part(each) if isinstance(each, torch.Tensor) else each for each in leaves]
        self.specs = tuple(part.spec for part in self._parts if isinstance(part, _Part))

    def of(self, tensors: Iterator[torch.Tensor]) -> Any:
        """Return the value that has the next tensors in it, laid out as those of the example."""
        parts = [
            part.laid_out(next(tensors)) if isinstance(part, _Part) else part
            for part in self._parts
        ]
        return pytree.tree_unflatten(parts, self._structure)


class _Part:
    """A tensor of a value that crosses: PyTorch chooses algorithms by its strides."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.spec = TensorSpec.of(tensor)
        self._stride = tensor.stride()
        self._dense = torch.empty_like(tensor).stride() == self._stride

    def laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self._dense or tensor.stride() == self._stride:
            return tensor
        return tensor.new_empty_strided(tensor.shape, self._stride).copy_(tensor)


class Recorder(Meter):
    """Runs a graph, and records which operations change tensors in place."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.changes: set[fx.Node] = set()

    def run_node(self, node: fx.Node) -> Any:
        """Run one operation and record it."""
        read = [each for i in node.all_input_nodes for each in self.steps[i].tensors]
        before = [each._version for each in read]
        value = super().run_node(node)
        if [each._version for each in read] != before:
            self.changes.add(node)
        return value


@dataclass(frozen=True)
class BlockGraph:
    """The graph of a block. It takes and gives values in the order of ``takes`` and ``gives``."""

    run: fx.GraphModule
    takes: tuple[Crossing, ...]
    gives: tuple[Crossing, ...]


class Division:
    """Which operation runs in which block, and what crosses from block to block.

    A value is known by the operation that made it. Operations that return the tensor that they
    read, unchanged or changed in place, share its value. Values that depend on parameters alone
    do not cross: each block computes those that it uses. Numbers that follow from shapes are
    constants. If one tensor crosses under two names, it is one tensor behind the cut, too.

    Args:
        traced: The module.
        run: Its run on an example.
        owned: The block of each operation by its name, for operations that belong to a layer.
        blocks: Number of blocks.
        stored: The raw input of the example as it is stored; the module may take another type.
    """

    def __init__(
        self,
        traced: fx.GraphModule,
        run: Recorder,
        owned: Mapping[str, int],
        blocks: int,
        stored: torch.Tensor,
    ) -> None:
        self._traced, self._stored = traced, stored
        self._steps, self._changes = run.steps, run.changes
        steps = run.steps
        self._raw, *_ = data_path(steps)
        self._output = next(node for node in steps if node.op == "output")
        self._input_type = steps[self._raw].tensors[0].dtype
        self._last = blocks - 1
        self._on_data = self._that_depend_on_data()
        first: dict[int, fx.Node] = {}
        self._same = {
            n: first.setdefault(id(steps[n].value), n) for n in steps if n in self._on_data
        }
        self._block_of = self._assigned(owned)
        self._last_reader = self._readers()

    @property
    def _converts(self) -> bool:
        return self._input_type != self._stored.dtype

    def _that_depend_on_data(self) -> set[fx.Node]:
        found = {self._raw}
        for node, step in self._steps.items():
            if step.tensors and not found.isdisjoint(step.inputs):
                found.add(node)
        return found

    def _assigned(self, owned: Mapping[str, int]) -> dict[fx.Node, int]:
        """Return the block of each operation on data, in the order of the graph.

        It is that of the operation's layer, or a later one, so that operations on a tensor that
        is changed in place keep their order.
        """
        found = {self._raw: _FROM_OUTSIDE}
        users: dict[fx.Node, list[fx.Node]] = defaultdict(list)
        for node, step in self._steps.items():
            if node in found or node not in self._on_data or node is self._output:
                continue
            block = owned.get(node.name, 0 if step.origin is self._raw else None)
            if block is None:  # computed from the raw input, and never used
                continue
            inputs = [each for each in node.all_input_nodes if each in found]
            earlier = [user for each in inputs for user in users[self._same[each]]]
            changes = node in self._changes
            before = (each for each in earlier if changes or each in self._changes)
            found[node] = max([block, *(found[each] for each in (*inputs, *before))])
            for each in inputs:
                users[self._same[each]].append(node)
        return found

    def _readers(self) -> dict[fx.Node, int]:
        """Return the last block that reads each value."""
        found: dict[fx.Node, int] = {}
        for node, block in [*self._block_of.items(), (self._output, self._last)]:
            for origin in self._steps[node].inputs:
                found[origin] = max(found.get(origin, block), block)
        return found

    def _crossing(self, block: int) -> list[fx.Node]:
        """Return the operations whose values cross into a block."""
        return [
            node
            for node, made in self._block_of.items()
            if self._steps[node].origin is node
            and made < block <= self._last_reader.get(node, _FROM_OUTSIDE)
        ]

    def block(self, number: int) -> BlockGraph:
        """Build the graph of a block.

        Args:
            number: Its number, from 0.
        """
        takes = self._crossing(number) if number else [self._raw]
        graph = fx.Graph()
        placed = {node: graph.placeholder(node.name) for node in takes}
        values: dict[fx.Node, Any] = {node: self._first(placed, node) for node in takes}
        if self._raw in takes and self._converts:
            values[self._raw] = graph.call_method("to", (placed[self._raw], self._input_type))
        elif number == 0:  # the caller keeps its example
            values[self._raw] = graph.call_method("clone", (placed[self._raw],))

        def value(node: fx.Node) -> Any:
            for each in (node, self._steps[node].origin):
                if each in values:
                    return values[each]
            return self._steps[node].value

        own = [node for node, block in self._block_of.items() if block == number]
        ends = number == self._last
        for node in self._with_parameters([*own, self._output] if ends else own):
            values[node] = graph.node_copy(node, value)
        if ends:
            gives = [self._output]
            graph.output(fx.map_arg(self._output.args[0], value))
        else:
            gives = self._crossing(number + 1)
            graph.output(
                tuple(placed[n] if n is self._raw and self._converts else value(n) for n in gives)
            )
        return BlockGraph(
            fx.GraphModule(self._traced, graph, "Block"),
            tuple(map(self._as_crossing, takes)),
            tuple(map(self._as_crossing, gives)),
        )

    def _first(self, placed: Mapping[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
        """Return the first of the values that cross and are the same tensor as another."""
        return next(placed[each] for each in placed if self._same[each] is self._same[node])

    def _with_parameters(self, own: list[fx.Node]) -> Iterator[fx.Node]:
        """Return the operations of a block and those on parameters that they use, in order."""
        wanted = set(own)
        for node in reversed(self._steps):
            if node in wanted:
                wanted |= {
                    each
                    for each in node.all_input_nodes
                    if self._steps[each].tensors and each not in self._on_data
                }
        return (node for node in self._steps if node in wanted and node is not self._output)

    def _as_crossing(self, node: fx.Node) -> Crossing:
        return Crossing(self._stored if node is self._raw else self._steps[node].value)
