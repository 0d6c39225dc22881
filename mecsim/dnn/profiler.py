"""Converts PyTorch modules to the layer graphs of `mecsim.dnn.graph`.

A module is traced (`torch.fx`, or `torch.export` where its Python code depends on shapes). Its
graph is run once on tensors that have a shape but no content, so that even a large network takes
little memory and time. FLOPs are those of `torch.utils.flop_counter`, with the products that it
omits (see `_FORMULAS`). A multiply-add is two FLOPs. Products of matrices and vectors, convolutions
and attention count; element-wise operations, sums, poolings and normalisations count 0.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Final, TypeAlias

import torch
from pydantic import ValidationError
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mecsim.dnn.graph import RAW_INPUT, Layer, LayerGraph
from mecsim.dnn.timing import Timing, measure
from mecsim.dnn.tracing import trace
from mecsim.errors import ProfileError
from mecsim.support.text import error_line
from mecsim.support.validation import first_fault

_Shape: TypeAlias = Sequence[int]

_SELECTIONS = ("getitem", "narrow", "pad", "select", "slice")
"""Words in the names of operations that only select or pad: they change the size at no cost."""


def _matrix_vector(matrix: _Shape, _vector: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _added_matrix_vector(_added: _Shape, matrix: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _vectors(one: _Shape, _other: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(one)


def _added_batch(_added: _Shape, one: _Shape, other: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(one) * other[-1]


def _time_convolution(_x: _Shape, weight: _Shape, *_: Any, out_shape: _Shape, **__: Any) -> int:
    return 2 * math.prod(out_shape) * weight[0] * weight[1]


def _bilinear(one: _Shape, weight: _Shape, other: _Shape, *_: Any, **__: Any) -> int:
    """Return the FLOPs of x A y, shapes (n, i), (o, i, j), (n, j): first x A, then the rest."""
    outputs, inputs, columns = weight
    return 2 * (math.prod(one) // inputs) * outputs * columns * (inputs + 1)


_ATEN = torch.ops.aten
_FORMULAS: dict[Any, Callable[..., int]] = {
    _ATEN.mv: _matrix_vector,
    _ATEN.addmv: _added_matrix_vector,
    _ATEN.dot: _vectors,
    _ATEN.vdot: _vectors,
    _ATEN.addbmm: _added_batch,
    _ATEN.conv_tbc: _time_convolution,
    _ATEN._trilinear: _bilinear,  # only `torch.nn.functional.bilinear` calls it
}
"""FLOPs of the products that PyTorch's counter omits, by the shapes of their arguments."""


def _flop_counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=_FORMULAS)


INPUT_TYPES: Final = ("float32", "float16", "bfloat16", "int64", "int32", "uint8")
"""What the numbers of an input may be: tokens of language models are int64."""


def profile_module(
    module: nn.Module,
    input_shape: tuple[int, ...],
    name: str,
    *,
    input_type: str | None = None,
    input_bits: int | None = None,
    stages: tuple[str, ...] = (),
    timing: Timing | None = None,
) -> LayerGraph:
    """Count the cost of each layer of a module for one input, in inference mode.

    A layer is an operation together with the operations fused into it. An operation without FLOPs
    is fused if it is the only reader of the output and keeps the number of elements (activation,
    normalisation, dropout, reshape) or only selects or pads. Poolings, and operations that merge
    several tensors or read the raw input, are separate layers. The module is not changed.

    If several layers emit the results, a last layer ``output`` without cost joins them.
    ``nn.TransformerEncoder`` is opened: each of its layers is a layer.

    Parameters that several layers use are listed in `Layer.shared` of each, so that every block
    that uses them counts them.

    Args:
        module: Any module whose ``forward`` takes one tensor.
        input_shape: Shape of one raw input, without the batch dimension.
        name: The name of the model.
        input_type: One of `INPUT_TYPES`; by default that of the parameters. Integers are zeros.
        input_bits: Size of one raw input, bits; by default that of the tensor of ``input_type``,
            without one that of a float32 tensor.
        stages: The layers after which `mecsim.dnn.cuts.cut_stages` cuts.
        timing: How to measure the time of each layer on this machine, if it is to be measured.

    Raises:
        ProfileError: If the module cannot be traced or run on that shape, does not have one input,
            returns no tensor, or a stage is no legal cut.
    """
    shape = tuple(input_shape)
    kind = None if input_type is None else getattr(torch, input_type)
    bits = math.prod(shape) * (32 if kind is None else 8 * kind.itemsize)
    try:
        layers, owners = _count(module, shape, kind)
        measured = {}
        if timing is not None:
            names = [layer.name for layer in layers]
            measured = {timing.node: measure(module, shape, kind, names, owners, timing)}
    except ProfileError as error:
        raise ProfileError(f"model {name!r} {error}") from error.__cause__
    except ValidationError as error:
        raise ProfileError(f"model {name!r}: a layer's {first_fault(error)}") from error
    try:
        return LayerGraph(
            name=name,
            input_shape=shape,
            input_bits=bits if input_bits is None else input_bits,
            layers=layers,
            stages=stages,
            measured=measured,
        )
    except ValidationError as error:
        raise ProfileError(f"model {name!r}: {first_fault(error)}") from error


@dataclass(frozen=True)
class _Step:
    """The record of one operation of a traced graph after it was run.

    ``inputs`` are the operations whose tensors it read, ``tensors`` its results. If it returns the
    tensor that it read, unchanged or changed in place, ``origin`` is the source of that tensor.
    """

    name: str
    operation: str
    inputs: tuple[fx.Node, ...]
    origin: fx.Node
    tensors: tuple[torch.Tensor, ...]
    flops: int
    parameters: tuple[nn.Parameter, ...]

    @property
    def elements(self) -> int:
        return sum(tensor.numel() for tensor in self.tensors)

    @property
    def bits(self) -> int:
        return sum(8 * tensor.numel() * tensor.element_size() for tensor in self.tensors)


_Steps = dict[fx.Node, _Step]
_Sizes = dict[int, int]


class _Meter(fx.Interpreter):
    """Runs a graph and records a `_Step` for each of its nodes, in order."""

    def __init__(self, module: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(module)
        self.counter = counter
        self.steps: _Steps = {}

    def run_node(self, node: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        value = super().run_node(node)
        sources = [i for i in node.all_input_nodes if self.steps[i].tensors]
        unchanged = len(sources) == 1 and value is self.env[sources[0]]
        operation = _operation(node, self.module)
        self.steps[node] = _Step(
            name=_name(node, operation),
            operation=operation.lower(),
            inputs=tuple(dict.fromkeys(self.steps[i].origin for i in sources)),
            origin=self.steps[sources[0]].origin if unchanged else node,
            tensors=tuple(_tensors(value)),
            flops=self.counter.get_total_flops() - before,
            parameters=_parameters(node, self.module),
        )
        return value


def _count(
    module: nn.Module, input_shape: tuple[int, ...], kind: torch.dtype | None
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Trace a module and run it on a tensor without content.

    Returns:
        The layers, and the name of the layer of each operation by the name of the operation.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = _without_content(module, mode)
    like = next(fake.parameters(), torch.zeros(()))
    with mode, torch.no_grad(), _every_flop_counted():
        x = torch.zeros((1, *input_shape), dtype=kind or like.dtype, device=like.device)
        traced = trace(fake, x)
        try:
            with _flop_counter() as counter:
                meter = _Meter(traced, counter)
                meter.run(x)
            total = _whole_flops(fake, x, counter.get_total_flops())
        except Exception as error:  # running a module runs the user's code
            shape = tuple(x.shape)
            raise ProfileError(
                f"fails on an input of shape {shape}: {error_line(error)}"
            ) from error
    layers, owners = _layers(meter.steps)
    if (found := sum(layer.flops for layer in layers)) != total:
        raise ProfileError(
            f"has {found} FLOPs between its input and its result, but {total} in all; "
            "remove what is computed and not used"
        )
    return layers, owners


def _whole_flops(module: nn.Module, x: torch.Tensor, traced: int) -> int:
    """Return the FLOPs of a module, of which the traced graph may leave out what is not used.

    An encoder looks into its mask, which has no content here; then it is those of the graph.
    """
    with _flop_counter() as counter:
        try:
            module(x)
        except DataDependentOutputException:
            return traced
    return counter.get_total_flops()


def _without_content(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a copy for inference whose parameters and buffers have a shape but no content."""
    try:
        tensors = [*module.parameters(), *module.buffers()]
        memo: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
        return copy.deepcopy(module, memo).eval()
    except Exception as error:  # copying runs the user's code
        raise ProfileError(f"cannot be copied: {error_line(error)}") from error


@contextmanager
def _every_flop_counted() -> Iterator[None]:
    """Disable the fused kernels of attention and LSTMs, which PyTorch's counter does not count."""
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            # Restoring the flags warns of a missing Intel GPU.
            warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)


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


def _path(steps: _Steps) -> list[fx.Node]:
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
    path = [node for node in steps if node in reached & needed and node is not output]
    if path[:1] != [raw] or len(path) == 1:
        raise ProfileError("computes nothing from its input")
    return path


def _output(steps: _Steps) -> fx.Node:
    return next(node for node in steps if node.op == "output")


def _heads(steps: _Steps, path: list[fx.Node]) -> dict[fx.Node, fx.Node]:
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


def _fuses(step: _Step, source: _Step) -> bool:
    """Return whether an operation is fused into the layer of which it is the only reader."""
    if step.flops or "pool" in step.operation:
        return False
    selects = any(word in step.operation for word in _SELECTIONS)
    return selects or step.elements == source.elements


def _owners(steps: _Steps, heads: dict[fx.Node, fx.Node]) -> dict[fx.Node, fx.Node]:
    """Return the head of the layer that bears the cost of each operation, also off the path."""
    owners = dict(heads)
    for node, step in steps.items():  # results that nothing uses: the layer that they come from
        if node not in owners and (inputs := [i for i in step.inputs if i in owners]):
            owners[node] = owners[inputs[-1]]
    for node in reversed(steps):  # parameters and operations on parameters: their first reader
        if node not in owners and (users := [u for u in steps if u in node.users and u in owners]):
            owners[node] = owners[users[0]]
    return owners


def _layers(steps: _Steps) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Return the layers of a graph that was run, in its order, and the layer of each operation."""
    path = _path(steps)
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


def _joined(steps: _Steps, names: Mapping[fx.Node, str]) -> Iterator[Layer]:
    """Yield a layer that joins the results, if several layers (or the raw input) emit them."""
    output = steps[_output(steps)]
    sources = tuple(dict.fromkeys(names[i] for i in output.inputs if i in names))
    if len(sources) > 1:
        yield Layer(_free("output", names.values()), 0, 0, output.bits, sources)


def _layer_names(steps: _Steps, raw: fx.Node, heads: dict[fx.Node, fx.Node]) -> dict[fx.Node, str]:
    """Return the name of the layer of each operation; repeated names get _2, _3, …."""
    names = {raw: RAW_INPUT}
    for head in dict.fromkeys(heads.values()):
        names[head] = _free(steps[head].name, names.values())
    return names | {node: names[head] for node, head in heads.items()}


def _free(base: str, taken: Collection[str]) -> str:
    return next(n for n in chain([base], (f"{base}_{i}" for i in count(2))) if n not in taken)


def _parameters_of(
    steps: _Steps, heads: dict[fx.Node, fx.Node], owners: dict[fx.Node, fx.Node]
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
    steps: _Steps, heads: dict[fx.Node, fx.Node], owners: dict[fx.Node, fx.Node]
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
