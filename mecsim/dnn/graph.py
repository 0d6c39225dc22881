"""DNNs as graphs of layers.

A profile (``mecsim/dnn/profiles/*.json``) lists the layers of a network with the cost of each for
one input: FLOPs, parameter bytes, and the bits of the tensor that it emits. `mecsim.dnn.profiler`
writes profiles from PyTorch modules; nothing here needs PyTorch. `mecsim.dnn.cuts` turns a graph
into the chain of blocks of a task.

A cut is legal only where exactly one tensor is live, unless more are allowed. Activations,
normalisations and dropout belong to the layer whose output they read, so no cut separates a
convolution from its ReLU.

Units: 1 multiply-add = 2 FLOPs, batch 1. Feature maps are counted as they are computed (float32,
32 bits a number), raw images as they are stored (8 bits a channel): a CIFAR-10 image is
32·32·3·8 = 24 576 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, replace
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

NO_TYPES: Final = ("formula", "flops")
"""Names that scenarios and ``--like`` use for what is not measured."""

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
            if node in NO_TYPES:
                problem = "names what is not measured; allowed: another type"
                raise ProfileError(f"model {self.name!r}: measured.{node}: {problem}")
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

    def legal_cuts(self, live_tensors: int = 1) -> tuple[str, ...]:
        """Return the layers after which the network may be cut, from first to last.

        A cut after layer v puts v and the layers in front of it before the cut, and the others
        behind it. Every tensor that is read behind it crosses, the raw input, too. If only one
        crosses, that is v's, with any number of readers, and all layers before the cut are its
        ancestors. The last layer is no cut.

        Args:
            live_tensors: The most tensors that may cross.
        """
        return tuple(v.name for v in self.layers if 1 <= len(self._live[v.name]) <= live_tensors)

    def with_measurement(self, node: str, measurement: Measurement) -> LayerGraph:
        """Return the network with times of another type of node.

        Args:
            node: Name of the type.
            measurement: The times of each layer.

        Raises:
            ProfileError: If the network already has times of that type.
        """
        if node in self.measured:
            raise ProfileError(
                f"model {self.name!r}: already has measured times of {node!r}; "
                "allowed: each type of node once"
            )
        return replace(self, measured={**self.measured, node: measurement})

    def crossing_bits(self, name: str) -> int:
        """Return the bits of the tensors that cross a cut after a layer; of the result at the end.

        Args:
            name: The layer.
        """
        bits = {layer.name: layer.output_bits for layer in self.layers}
        return sum(
            (bits | {RAW_INPUT: self.input_bits})[each] for each in self._live[name] or {name}
        )

    @cached_property
    def _live(self) -> dict[str, frozenset[str]]:
        """For each layer, the tensors that would cross a cut after it."""
        last_reader = {name: n for n, layer in enumerate(self.layers) for name in layer.inputs}
        names = [RAW_INPUT, *(layer.name for layer in self.layers)]
        return {
            cut.name: frozenset(each for each in names[: n + 2] if last_reader.get(each, n) > n)
            for n, cut in enumerate(self.layers)
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


def check_cuts(graph: LayerGraph, names: Sequence[str], live_tensors: int = 1) -> None:
    """Check that layers are legal cuts, in order.

    Args:
        graph: The network.
        names: The layers after which to cut, from first to last.
        live_tensors: The most tensors that may cross a cut.

    Raises:
        ProfileError: If a layer is unknown, is no legal cut, comes twice or out of order.
    """
    where, legal = f"model {graph.name!r}", graph.legal_cuts(live_tensors)
    for name in names:
        if name not in legal:
            allowed = f"{did_you_mean(name, legal)}allowed: {', '.join(legal) or 'none'}"
            reason = _why_illegal(graph, name, live_tensors)
            raise ProfileError(f"{where} cannot be cut after {name!r}: {reason}; {allowed}")
    for first, second in pairwise(names):
        if legal.index(first) >= legal.index(second):
            fault = "is given twice" if first == second else f"must come before {first!r}"
            raise ProfileError(f"{where}: the cut after {second!r} {fault}")


def _why_illegal(graph: LayerGraph, name: str, most: int) -> str:
    """Return why there is no legal cut after the named layer."""
    layers = [layer.name for layer in graph.layers]
    if name not in layers:
        return "there is no such layer"
    if name == layers[-1]:
        return "it is the last layer"
    live = [tensor for tensor in (RAW_INPUT, *layers) if tensor in graph._live[name]]
    allowed = "only one may be" if most == 1 else f"at most {most} may be"
    return f"{len(live)} tensors are live there ({', '.join(live)}), and {allowed}"


def overview(graph: LayerGraph, live_tensors: int = 1) -> dict[str, Any]:
    """Return one row about a graph: input shape, counts, FLOPs, parameter bytes.

    Args:
        graph: The network.
        live_tensors: The most tensors that may cross a cut.
    """
    return {
        "model": graph.name,
        "input": "x".join(map(str, graph.input_shape)),
        "layers": len(graph.layers),
        "max_blocks": len(graph.legal_cuts(live_tensors)) + 1,
        "stages": len(graph.stages) + 1,
        "flops": sum(layer.flops for layer in graph.layers),
        "parameter_bytes": sum(layer.parameter_bytes for layer in graph.layers),
    }


def layer_table(graph: LayerGraph, live_tensors: int = 1) -> list[dict[str, Any]]:
    """Return one row for each layer: its fields, ``cut``, and ``ms`` by measured type of node.

    ``cut`` is "stage", "yes" or "no".

    Args:
        graph: The network.
        live_tensors: The most tensors that may cross a cut.
    """
    legal = graph.legal_cuts(live_tensors)
    cuts = dict.fromkeys(legal, "yes") | dict.fromkeys(graph.stages, "stage")
    rows = [as_record(layer) | {"cut": cuts.get(layer.name, "no")} for layer in graph.layers]
    for n, row in enumerate(rows if graph.measured else ()):
        row["ms"] = {node: each.ms[n] for node, each in graph.measured.items()}
    return rows


def as_record(layer: Layer) -> dict[str, Any]:
    """Return the fields of a layer; shared parameters only if there are any."""
    record = asdict(layer)
    if not layer.shared:
        del record["shared"]
    return record
