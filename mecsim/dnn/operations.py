"""Runs traced modules, and groups their operations into layers.

An operation that costs nothing and whose input nothing else reads belongs to the layer of that
input. Operations on parameters belong to the layer that reads their result first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from mecsim.dnn.graph import RAW_INPUT, Layer
from mecsim.errors import ProfileError

_SELECTIONS = ("getitem", "narrow", "pad", "select", "slice")
"""Words in the names of operations that only select or pad: they change the size at no cost."""


@dataclass(frozen=True)
class Step:
    """The record of one operation of a traced graph after it was run.

    ``inputs`` are the operations whose tensors it read, ``value`` its result and ``tensors`` those
    in it. If it returns the tensor that it read, unchanged or changed in place, ``origin`` is the
    source of that tensor.
    """

    name: str
    operation: str
    inputs: tuple[fx.Node, ...]
    origin: fx.Node
    value: Any
    tensors: tuple[torch.Tensor, ...]
    flops: int
    parameters: tuple[nn.Parameter, ...]

    @property
    def elements(self) -> int:
        """The numbers in its results."""
        return sum(tensor.numel() for tensor in self.tensors)

    @property
    def bits(self) -> int:
        """The size of its results in bits."""
        return sum(8 * tensor.numel() * tensor.element_size() for tensor in self.tensors)


Steps: TypeAlias = dict[fx.Node, Step]
_Sizes: TypeAlias = dict[int, int]


class Meter(fx.Interpreter):
    """Runs a graph and records a `Step` for each of its nodes, in order.

    Args:
        module: The graph.
        flops: Returns the FLOPs that have been counted until now.
    """

    def __init__(self, module: fx.GraphModule, flops: Callable[[], int] = lambda: 0) -> None:
        super().__init__(module)
        self.flops = flops
        self.steps: Steps = {}

    def run_node(self, node: fx.Node) -> Any:
        """Run one operation and record it."""
        before = self.flops()
        value = super().run_node(node)
        sources = [i for i in node.all_input_nodes if self.steps[i].tensors]
        unchanged = len(sources) == 1 and value is self.env[sources[0]]
        operation = _operation(node, self.module)
        self.steps[node] = Step(
            name=_name(node, operation),
            operation=operation.lower(),
            inputs=tuple(dict.fromkeys(self.steps[i].origin for i in sources)),
            origin=self.steps[sources[0]].origin if unchanged else node,
            value=value,
            tensors=tuple(_tensors(value)),
            flops=self.flops() - before,
            parameters=_parameters(node, self.module),
        )
        return value


def _operation(node: fx.Node, module: nn.Module) -> str:
    """Return the operation of a node: ``MaxPool2d``, ``getitem``, ``add``."""
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0].strip("_")


def _name(node: fx.Node, operation: str) -> str:
    """Return the path of a node's module, or of its operation in the module that contains it."""
    if node.op == "call_module":
        return str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else ("", "")
    if path and "torch.nn.modules." in str(kind):  # torch.export looks into PyTorch's own modules
        return str(path)
    return f"{path}.{operation}" if path else operation


def _parameters(node: fx.Node, module: nn.Module) -> tuple[nn.Parameter, ...]:
    """Return the parameters that a node fetches, or those of the module that it calls."""
    if node.op == "call_module":
        return tuple(module.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        named = dict(module.named_parameters(remove_duplicate=False))
        return tuple(named[key] for key in [str(node.target)] if key in named)
    return ()


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield all tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def data_path(steps: Steps) -> list[fx.Node]:
    """Return the operations from the raw input to the results; the raw input comes first."""
    raw = next(node for node in steps if node.op == "placeholder")
    output = _output(steps)
    if not steps[output].tensors:
        raise ProfileError("returns no tensor")
    reached, needed = {raw}, {output}
    for node, step in steps.items():
        if step.tensors and step.origin is node and not reached.isdisjoint(step.inputs):
            reached.add(node)
    for node in reversed(steps):
        if node in needed:
            needed.update(steps[node].inputs)
    found = [node for node in steps if node in reached & needed and node is not output]
    if found[:1] != [raw] or len(found) == 1:
        raise ProfileError("computes nothing from its input")
    return found


def _output(steps: Steps) -> fx.Node:
    return next(node for node in steps if node.op == "output")


def _heads(steps: Steps, path: list[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Return the first operation of the layer of each operation on the path."""
    raw, *operations = path
    reading = (*operations, _output(steps))
    readers = Counter(node for operation in reading for node in steps[operation].inputs)
    heads: dict[fx.Node, fx.Node] = {}
    for node in operations:
        inputs = [i for i in steps[node].inputs if i is raw or i in heads]
        source = inputs[0]
        alone = len(inputs) == 1 and source is not raw and readers[source] == 1
        heads[node] = heads[source] if alone and _fuses(steps[node], steps[source]) else node
    return heads


def _fuses(step: Step, source: Step) -> bool:
    """Return whether an operation is fused into the layer of which it is the only reader."""
    if step.flops or "pool" in step.operation:
        return False
    selects = any(word in step.operation for word in _SELECTIONS)
    return selects or step.elements == source.elements


def _owners(steps: Steps, heads: dict[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
    """Return the head of the layer that bears the cost of each operation, also off the path."""
    owners = dict(heads)
    for node, step in steps.items():  # results that nothing uses: the layer that they come from
        if node not in owners and (inputs := [i for i in step.inputs if i in owners]):
            owners[node] = owners[inputs[-1]]
    for node in reversed(steps):  # parameters and operations on parameters: their first reader
        if node not in owners and (users := [u for u in steps if u in node.users and u in owners]):
            owners[node] = owners[users[0]]
    return owners


def layers_of(steps: Steps) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Return the layers of a graph that was run, in its order, and the layer of each operation."""
    path = data_path(steps)
    heads = _heads(steps, path)
    names = _layer_names(steps, path[0], heads)
    owners = _owners(steps, heads)
    last = {head: node for node, head in heads.items()}
    flops: Counter[fx.Node] = Counter()
    for node, head in owners.items():
        flops[head] += steps[node].flops
    parameters = _parameters_of(steps, heads, owners)
    uses = Counter(number for sizes in parameters.values() for number in sizes)
    layers, counted = [], set[int]()
    for head, tail in last.items():
        sizes = parameters[head]
        shared = tuple((f"shared{n}", size) for n, size in sizes.items() if uses[n] > 1)
        layers.append(
            Layer(
                name=names[head],
                flops=flops[head],
                parameter_bytes=sum(size for n, size in sizes.items() if n not in counted),
                output_bits=steps[tail].bits,
                inputs=tuple(dict.fromkeys(names[i] for i in steps[head].inputs if i in names)),
                shared=shared,
            )
        )
        counted.update(sizes)
    named = {node.name: names[head] for node, head in owners.items()}
    return (*layers, *_joined(steps, names)), named


def _joined(steps: Steps, names: Mapping[fx.Node, str]) -> Iterator[Layer]:
    """Yield a layer that joins the results, if several layers (or the raw input) emit them."""
    output = steps[_output(steps)]
    sources = tuple(dict.fromkeys(names[i] for i in output.inputs if i in names))
    if len(sources) > 1:
        yield Layer(_free("output", names.values()), 0, 0, output.bits, sources)


def _layer_names(steps: Steps, raw: fx.Node, heads: dict[fx.Node, fx.Node]) -> dict[fx.Node, str]:
    """Return the name of the layer of each operation; repeated names get _2, _3, …."""
    names = {raw: RAW_INPUT}
    for head in dict.fromkeys(heads.values()):
        names[head] = _free(steps[head].name, names.values())
    return names | {node: names[head] for node, head in heads.items()}


def _free(base: str, taken: Collection[str]) -> str:
    return next(n for n in chain([base], (f"{base}_{i}" for i in count(2))) if n not in taken)


def _parameters_of(
    steps: Steps, heads: dict[fx.Node, fx.Node], owners: dict[fx.Node, fx.Node]
) -> dict[fx.Node, _Sizes]:
    """Return the parameters of each layer: the number of each one and its bytes."""
    order = {node: index for index, node in enumerate(steps)}
    users = [(order[h], node, h) for node, hs in _users(steps, heads, owners).items() for h in hs]
    numbers: dict[int, int] = {}
    found: dict[fx.Node, _Sizes] = {head: {} for head in owners.values()}
    for _, node, head in sorted(users, key=lambda use: use[0]):
        for parameter in steps[node].parameters:
            number = numbers.setdefault(id(parameter), len(numbers))
            found[head][number] = parameter.numel() * parameter.element_size()
    return found


def _users(
    steps: Steps, heads: dict[fx.Node, fx.Node], owners: dict[fx.Node, fx.Node]
) -> dict[fx.Node, set[fx.Node]]:
    """Return the heads of all layers that use each operation.

    A parameter, and an operation on parameters alone, may be read by several layers.
    """
    found: dict[fx.Node, set[fx.Node]] = {}
    for node in reversed(steps):
        if node in owners:
            found[node] = {owners[node]}
            if node not in heads:
                found[node] |= {head for user in node.users for head in found.get(user, ())}
    return found
