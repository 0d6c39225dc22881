"""DNNs as graphs of layers, and the blocks that one gets by cutting them.

A profile (``mecsim/dnn/profiles/*.json``) lists the layers of a network with what each costs for
one input: FLOPs, parameter bytes, and the bits of the tensor that it emits. `mecsim.dnn.profiler` writes
profiles from PyTorch modules; nothing here needs PyTorch. Three functions turn a graph into the
chain of blocks of which a task consists: `cut_at`, `cut_stages` and `cut_balanced`.

A cut is legal only where exactly one tensor is live. Activations, normalisations and dropout
belong to the layer whose output they read, so no cut parts a convolution from its ReLU.

Units: 1 multiply-add = 2 FLOPs, batch 1. Feature maps are counted as they are computed (float32,
32 bits a number), raw images as they are stored (8 bits a channel): a CIFAR-10 image is
32·32·3·8 = 24 576 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from typing import Any

import networkx as nx

from mecsim.errors import ProfileError
from mecsim.support.text import did_you_mean

RAW_INPUT = "input"
"""The name by which layers refer to the raw input of the network."""


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_list(value: object, is_item: Callable[[object], bool], least: int = 1) -> bool:
    return isinstance(value, tuple) and len(value) >= least and all(map(is_item, value))


_POSITIVE = (lambda v: _is_count(v, least=1), "a whole number ≥ 1")
_NATURAL = (_is_count, "a whole number ≥ 0")
_ALLOWED: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_text, "a text that is not empty"),
    "flops": _NATURAL,
    "parameter_bytes": _NATURAL,
    "output_bits": _POSITIVE,
    "inputs": (lambda v: _is_list(v, _is_text), "a list of one or more names of layers"),
    "input_shape": (lambda v: _is_list(v, _POSITIVE[0]), "a list of whole numbers ≥ 1"),
    "input_bits": _POSITIVE,
    "layers": (lambda v: _is_list(v, lambda i: isinstance(i, Layer)), "a list of layers"),
    "stages": (lambda v: _is_list(v, _is_text, least=0), "a list of names of layers"),
}
"""What the fields of a layer and of a graph may hold, each by itself."""


@dataclass(frozen=True)
class Layer:
    """One layer with what is fused into it, for one input (batch 1).

    Attributes:
        name: Unique in its graph; never ``"input"``.
        flops: Floating-point operations; 1 multiply-add = 2 FLOPs.
        parameter_bytes: Size of the parameters that no earlier layer has counted, bytes.
        output_bits: Size of the one tensor that the layer emits, bits.
        inputs: The layers whose tensors it reads; ``"input"`` is the raw input.

    Raises:
        ProfileError: If a field has a wrong type or is out of range.
    """

    name: str
    flops: int
    parameter_bytes: int
    output_bits: int
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_fields(self, f"layer {self.name!r}")


@dataclass(frozen=True)
class LayerGraph:
    """The layers of a network and which tensors each of them reads.

    Attributes:
        name: The name of the model.
        input_shape: Shape of one raw input, without the batch dimension.
        input_bits: Size of one raw input, bits.
        layers: The layers in a topological order; the last one emits the result.
        stages: The cut that goes with the model: the layers after which `cut_stages` cuts.

    Raises:
        ProfileError: If the layers are not a graph with one result, or the stages no legal cuts.
    """

    name: str
    input_shape: tuple[int, ...]
    input_bits: int
    layers: tuple[Layer, ...]
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_fields(self, f"model {self.name!r}")
        _check_wiring(self)
        _check_cuts(self, self.stages)

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The layers as nodes (attributes of `Layer`), with an edge from producer to reader.

        The raw input is the node ``"input"``. Every edge carries the ``bits`` of its tensor.
        """
        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        graph.add_node(RAW_INPUT, output_bits=self.input_bits)
        for layer in self.layers:
            graph.add_node(layer.name, **{f.name: getattr(layer, f.name) for f in fields(layer)})
            for name in layer.inputs:
                graph.add_edge(name, layer.name, bits=graph.nodes[name]["output_bits"])
        return graph

    def legal_cuts(self) -> tuple[str, ...]:
        """The layers after which one may cut, from first to last.

        A cut after layer v puts v and all its ancestors before the cut and every other layer
        behind it. It is legal if v's output is the only tensor that crosses, the raw input
        included, whatever the number of its readers. The last layer is no cut.
        """
        return tuple(v.name for v in self.layers if self._live[v.name] == {v.name})

    @cached_property
    def _live(self) -> dict[str, frozenset[str]]:
        """For each layer, the tensors that would cross a cut after it."""
        before: dict[str, frozenset[str]] = {RAW_INPUT: frozenset({RAW_INPUT})}
        for layer in self.layers:
            before[layer.name] = frozenset({layer.name}).union(*(before[i] for i in layer.inputs))
        return {
            cut.name: frozenset(
                name
                for layer in self.layers
                if layer.name not in before[cut.name]
                for name in layer.inputs
                if name == RAW_INPUT or name in before[cut.name]
            )
            for cut in self.layers
        }


def _check_fields(value: Layer | LayerGraph, where: str) -> None:
    """Raise unless each field, by itself, has a value that is allowed."""
    for key, content in ((field.name, getattr(value, field.name)) for field in fields(value)):
        is_allowed, allowed = _ALLOWED[key]
        if not is_allowed(content):
            raise ProfileError(f"{where}: {key} is {content!r:.80}, must be {allowed}")


def _check_wiring(graph: LayerGraph) -> None:
    """Raise unless the layers are in topological order and all lead to the last one."""
    where, known = f"model {graph.name!r}", {RAW_INPUT}
    for layer in graph.layers:
        if layer.name in known:
            raise ProfileError(f"{where}: the layer name {layer.name!r} is already taken")
        for name in layer.inputs:
            if name not in known:
                problem = f"layer {layer.name!r} reads {name!r}, which is no earlier layer"
                allowed = f"{did_you_mean(name, known)}allowed: {', '.join(sorted(known))}"
                raise ProfileError(f"{where}: {problem}; {allowed}")
        known.add(layer.name)
    unread = known.difference({graph.layers[-1].name}, *(layer.inputs for layer in graph.layers))
    if unread:
        raise ProfileError(f"{where}: nothing reads the output of {', '.join(sorted(unread))}")


def _check_cuts(graph: LayerGraph, names: Sequence[str]) -> None:
    """Raise unless the names are legal cuts from first to last."""
    where, legal = f"model {graph.name!r}", graph.legal_cuts()
    for name in names:
        if name not in legal:
            allowed = f"{did_you_mean(name, legal)}allowed: {', '.join(legal) or 'none'}"
            raise ProfileError(
                f"{where} cannot be cut after {name!r}: {_why_illegal(graph, name)}; {allowed}"
            )
    for first, second in pairwise(names):
        if legal.index(first) >= legal.index(second):
            fault = "is given twice" if first == second else f"must come before {first!r}"
            raise ProfileError(f"{where}: the cut after {second!r} {fault}")


def _why_illegal(graph: LayerGraph, name: str) -> str:
    """What is wrong with a cut after the named layer."""
    layers = [layer.name for layer in graph.layers]
    if name not in layers:
        return "there is no such layer"
    if name == layers[-1]:
        return "it is the last layer"
    live = [tensor for tensor in (RAW_INPUT, *layers) if tensor in graph._live[name]]
    return f"{len(live)} tensors are live there ({', '.join(live)}), and only one may be"


def overview(graph: LayerGraph) -> dict[str, Any]:
    """Return what a graph is, in a line: shape of the input, counts, FLOPs, parameter bytes."""
    return {
        "model": graph.name,
        "input": "x".join(map(str, graph.input_shape)),
        "layers": len(graph.layers),
        "max_blocks": len(graph.legal_cuts()) + 1,
        "stages": len(graph.stages) + 1,
        "flops": sum(layer.flops for layer in graph.layers),
        "parameter_bytes": sum(layer.parameter_bytes for layer in graph.layers),
    }


def layer_table(graph: LayerGraph) -> list[dict[str, Any]]:
    """Return the layers of a graph, and whether one may cut after each ("stage", "yes" or "no")."""
    cuts = dict.fromkeys(graph.legal_cuts(), "yes") | dict.fromkeys(graph.stages, "stage")
    return [asdict(layer) | {"cut": cuts.get(layer.name, "no")} for layer in graph.layers]
