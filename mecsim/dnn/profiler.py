"""Converts PyTorch modules to the layer graphs of `mecsim.dnn.graph`.

A module is traced (`torch.fx`, or `torch.export` where its Python code depends on shapes). Its
graph is run once on tensors that have a shape but no content, so that even a large network takes
little memory and time. FLOPs are those of `torch.utils.flop_counter`, with the products that it
omits (see `_FORMULAS`). A multiply-add is two FLOPs. Products of matrices and vectors, convolutions
and attention count; element-wise operations, sums, poolings and normalisations count 0.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, TypeAlias

import torch
from pydantic import ValidationError
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mecsim.dnn.graph import RAW_INPUT, Layer, LayerGraph
from mecsim.errors import ProfileError
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


def profile_module(
    module: nn.Module,
    input_shape: tuple[int, ...],
    name: str,
    *,
    input_bits: int | None = None,
    stages: tuple[str, ...] = (),
) -> LayerGraph:
    """Count the cost of each layer of a module for one input, in inference mode.

    A layer is an operation together with the operations fused into it. An operation without FLOPs
    is fused if it is the only reader of the output and keeps the number of elements (activation,
    normalisation, dropout, reshape) or only selects or pads. Poolings, and operations that merge
    several tensors or read the raw input, are separate layers. The module is not changed.

    Parameters that several layers use are listed in `Layer.shared` of each, so that every block
    that uses them counts them.

    Args:
        module: Any module whose ``forward`` takes one tensor and returns one.
        input_shape: Shape of one raw input, without the batch dimension.
        name: The name of the model.
        input_bits: Size of one raw input, bits; by default that of a float32 tensor.
        stages: The layers after which `mecsim.dnn.cuts.cut_stages` cuts.

    Raises:
        ProfileError: If the module cannot be traced or run on that shape, does not have one input
            and one output tensor, or a stage is no legal cut.
    """
    shape = tuple(input_shape)
    bits = 32 * math.prod(shape) if input_bits is None else input_bits
    try:
        layers = _count(module, shape)
    except ProfileError as error:
        raise ProfileError(f"model {name!r} {error}") from error.__cause__
    except ValidationError as error:
        raise ProfileError(f"model {name!r}: a layer's {first_fault(error)}") from error
    try:
        return LayerGraph(
            name=name, input_shape=shape, input_bits=bits, layers=layers, stages=stages
        )
    except ValidationError as error:
        raise ProfileError(f"model {name!r}: {first_fault(error)}") from error


def load_factory(spec: str) -> nn.Module:
    """Import ``package.module:factory``, call the factory, and return its module.

    Raises:
        ProfileError: If it cannot be imported, raises, or does not return a module.
    """
    package, _, attribute = spec.partition(":")
    if not package or not attribute:
        raise ProfileError(f"{spec!r} names no factory; write package.module:factory")
    try:
        factory = getattr(importlib.import_module(package), attribute)
    except AttributeError as error:
        raise ProfileError(f"{spec!r}: {_line(error)}") from error
    except Exception as error:  # importing runs the user's code
        raise ProfileError(f"{spec!r}: importing {package!r} fails: {_line(error)}") from error
    if not callable(factory):
        raise ProfileError(f"{spec!r} is a {type(factory).__name__}, not something to call")
    try:
        module = factory()
    except Exception as error:  # the factory is the user's code
        raise ProfileError(
            f"{spec!r}: calling it without arguments fails: {_line(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ProfileError(f"{spec!r} returns a {type(module).__name__}, not a torch.nn.Module")
    return module


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


def _count(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """Trace a module, run it on a tensor without content, and return its layers."""
    defaults = _one_input(module)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = _without_content(module, mode)
    like = next(fake.parameters(), torch.zeros(()))
    with mode, torch.no_grad(), _every_flop_counted():
        x = torch.zeros((1, *input_shape), dtype=like.dtype, device=like.device)
        traced = _trace(fake, x, defaults)
        try:
            with _flop_counter() as counter:
                meter = _Meter(traced, counter)
                meter.run(x)
            with _flop_counter() as whole:
                fake(x)
        except Exception as error:  # running a module runs the user's code
            shape = tuple(x.shape)
            raise ProfileError(f"fails on an input of shape {shape}: {_line(error)}") from error
    layers, total = _layers(meter.steps), whole.get_total_flops()
    if (found := sum(layer.flops for layer in layers)) != total:
        raise ProfileError(
            f"has {found} FLOPs between its input and its result, but {total} in all; "
            "remove what is computed and not used"
        )
    return layers


def _one_input(module: nn.Module) -> dict[str, Any]:
    """Return the arguments of ``forward`` that have defaults; raise unless one has none."""
    arguments = inspect.signature(module.forward).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not a.empty}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    inputs = [a.name for a in arguments if a.name not in defaults and a.kind not in variadic]
    if len(inputs) != 1:
        raise ProfileError(f"has {len(inputs)} inputs ({', '.join(inputs)}), must have one")
    return defaults


def _without_content(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a copy for inference whose parameters and buffers have a shape but no content."""
    try:
        tensors = [*module.parameters(), *module.buffers()]
        memo: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
        return copy.deepcopy(module, memo).eval()
    except Exception as error:  # copying runs the user's code
        raise ProfileError(f"cannot be copied: {_line(error)}") from error


def _trace(module: nn.Module, x: torch.Tensor, defaults: dict[str, Any]) -> fx.GraphModule:
    """Return the operations of a module as a graph."""
    try:
        return fx.symbolic_trace(module, concrete_args=defaults)
    except Exception as error:  # noqa: BLE001 - tracing runs the user's code
        by_fx = _line(error)
    try:
        with redirect_stderr(io.StringIO()):  # where torch.export prints graphs that it gives up
            return torch.export.export(module, (x,)).module()
    except Exception as error:  # the same
        raise ProfileError(
            f"cannot be traced, neither by torch.fx ({by_fx}) nor by torch.export "
            f"({_line(error)}); its forward() must not depend on the values in tensors"
        ) from error


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
    """Return the operations from the raw input to the result; the raw input comes first."""
    raw = next(node for node in steps if node.op == "placeholder")
    output = next(node for node in steps if node.op == "output")
    if (results := len(steps[output].tensors)) != 1:
        raise ProfileError(f"returns {results} tensors, must return one")
    reached, needed = {raw}, {output}
    for node, step in steps.items():
        if step.tensors and step.origin is node and not reached.isdisjoint(step.inputs):
            reached.add(node)
    for node in reversed(steps):
        if node in needed:
            needed.update(steps[node].inputs)
    path = [node for node in steps if node in reached & needed]
    if path[:1] != [raw] or len(path) == 1:
        raise ProfileError("computes nothing from its input")
    return path


def _heads(steps: _Steps, path: list[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Return the first operation of the layer of each operation on the path."""
    raw, *operations = path
    readers = Counter(node for operation in operations for node in steps[operation].inputs)
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


def _layers(steps: _Steps) -> tuple[Layer, ...]:
    """Return the layers of a graph that was run, in its order."""
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
    return tuple(layers)


def _layer_names(steps: _Steps, raw: fx.Node, heads: dict[fx.Node, fx.Node]) -> dict[fx.Node, str]:
    """Return the name of the layer of each operation; repeated names get _2, _3, …."""
    names = {raw: RAW_INPUT}
    for head in dict.fromkeys(heads.values()):
        base = steps[head].name
        candidates = chain([base], (f"{base}_{n}" for n in count(2)))
        names[head] = next(c for c in candidates if c not in names.values())
    return names | {node: names[head] for node, head in heads.items()}


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


def _line(error: Exception) -> str:
    """Return the type of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
