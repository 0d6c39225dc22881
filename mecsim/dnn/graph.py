"""DNNs as graphs of layers.

A profile (``mecsim/dnn/profiles/*.json``) lists the layers of a network with the cost of each for
one input: FLOPs, parameter bytes, and the bits of the tensor that it emits. `mecsim.dnn.profiler`
writes profiles from PyTorch modules; nothing here needs PyTorch. `mecsim.dnn.cuts` turns a graph
into the chain of blocks of a task.

A cut is legal only where exactly one tensor is live. Activations, normalisations and dropout
belong to the layer whose output they read, so no cut separates a convolution from its ReLU.

Units: 1 multiply-add = 2 FLOPs, batch 1. Feature maps are counted as they are computed (float32,
32 bits a number), raw images as they are stored (8 bits a channel): a CIFAR-10 image is
32·32·3·8 = 24 576 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from mecsim.dnn.measurement import STRICT, Measurement, Name, check_number
from mecsim.errors import ProfileError
from mecsim.support.text import did_you_mean
from mecsim.support.validation import Whole, Within

if TYPE_CHECKING:
    import networkx as nx

RAW_INPUT: Final = "input"
"""The name by which layers refer to the raw input of the network."""

Natural: TypeAlias = Annotated[int, Within(0), Whole]
Positive: TypeAlias = Annotated[int, Within(1), Whole]


@dataclass(frozen=True, config=STRICT)
class Layer:
    """One layer with everything that is fused into it, for one input (batch 1).

    Raises:
        pydantic.ValidationError: If a field has a wrong type or is out of range.
    """

    name: Name
    """Unique in its graph; never ``"input"``."""
    flops: Natural
    """Floating-point operations; 1 multiply-add = 2 FLOPs."""
    parameter_bytes: Natural
    """Size of the parameters that no earlier layer has counted, in bytes."""
    output_bits: Positive
    """Size of the one tensor that the layer emits, in bits."""
    inputs: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The layers whose tensors it reads; ``"input"`` is the raw input."""
    shared: tuple[tuple[Name, Natural], ...] = ()
    """Name and bytes of each parameter that other layers use, too; they give it the same name."""


@dataclass(frozen=True, config=STRICT)
class LayerGraph:
    """The layers of a network and the tensors that each of them reads.

    Raises:
        pydantic.ValidationError: If a field has a wrong type or is out of range.
        ProfileError: If the layers are not a graph with one result, or the stages no legal cuts.
    """

    name: Name
    """Name of the model."""
    input_shape: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Shape of one raw input, without the batch dimension."""
    input_bits: Positive
    """Size of one raw input, in bits."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    """The layers in a topological order; the last one emits the result."""
    stages: tuple[Name, ...] = ()
    """The layers after which `cut_stages` cuts."""
    measured: Mapping[Name, Measurement] = field(default_factory=dict)
    """Measured times of the layers by type of node."""

    def __post_init__(self) -> None:
        _check_wiring(self)
        check_cuts(self, self.stages)
        for node, measurement in self.measured.items():
            check_number(f"measured.{node}.ms", len(measurement.ms), len(self.layers))

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The layers as nodes (with the fields of `Layer`), and an edge from producer to reader.

        The raw input is the node ``"input"``. Every edge carries the ``bits`` of its tensor.
        """
        import networkx as nx  # noqa: PLC0415 - 0.1 s, and a simulation needs no graph

        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        graph.add_node(RAW_INPUT, output_bits=self.input_bits)
        for layer in self.layers:
            graph.add_node(layer.name, **{f.name: getattr(layer, f.name) for f in fields(layer)})
            for name in layer.inputs:
                graph.add_edge(name, layer.name, bits=graph.nodes[name]["output_bits"])
        return graph

    def legal_cuts(self) -> tuple[str, ...]:
        """Return the layers after which the network may be cut, from first to last.

        A cut after layer v puts v and all its ancestors before the cut and every other layer
        behind it. It is legal if v's output is the only tensor that crosses, with any number of
        readers; the raw input counts as a tensor. The last layer is no cut.
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


def check_cuts(graph: LayerGraph, names: Sequence[str]) -> None:
    """Check that layers are legal cuts, in order.

    Args:
        graph: The network.
        names: The layers after which to cut, from first to last.

    Raises:
        ProfileError: If a layer is unknown, is no legal cut, comes twice or out of order.
    """
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
    """Return why there is no legal cut after the named layer."""
    layers = [layer.name for layer in graph.layers]
    if name not in layers:
        return "there is no such layer"
    if name == layers[-1]:
        return "it is the last layer"
    live = [tensor for tensor in (RAW_INPUT, *layers) if tensor in graph._live[name]]
    return f"{len(live)} tensors are live there ({', '.join(live)}), and only one may be"


def overview(graph: LayerGraph) -> dict[str, Any]:
    """Return one row about a graph: input shape, counts, FLOPs, parameter bytes."""
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
    """Return one row for each layer: its fields, and ``cut``: "stage", "yes" or "no"."""
    cuts = dict.fromkeys(graph.legal_cuts(), "yes") | dict.fromkeys(graph.stages, "stage")
    return [as_record(layer) | {"cut": cuts.get(layer.name, "no")} for layer in graph.layers]


def as_record(layer: Layer) -> dict[str, Any]:
    """Return the fields of a layer; shared parameters only if there are any."""
    record = asdict(layer)
    if not layer.shared:
        del record["shared"]
    return record
