"""Reads the layer graphs of PipeDream's profiler (``graph.txt``).

A line of a node gives its name, what it computes, its time in ms and the bytes of its result and
of its parameters, for a batch; a line that begins with a tab gives an edge::

    node2 -- Conv2d(3, 64, kernel_size=(3, 3)) -- forward_compute_time=1.5, backward_compute_time=3,
    activation_size=1024.0, parameter_size=48.0
        node1 -- node2

A task of mecsim is one input, so times and results are divided by the batch. On a GPU one input
alone takes longer than that: the batch shares the start of each kernel and the reading of weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mecsim.dnn.graph import RAW_INPUT, Layer, LayerGraph
from mecsim.dnn.measurement import Measurement
from mecsim.dnn.source_lines import amount, numbered_lines
from mecsim.errors import ProfileError

_NODE: Final = re.compile(r"(\S+) -- (.+) -- (\w+=.*)")
_EDGE: Final = re.compile(r"\s+(\S+) -- (\S+)")
_VALUE: Final = re.compile(r"(\w+)=(\[[^\]]*\]|[^,]*)")
_CONVOLUTION: Final = re.compile(r"Conv2d\((\d+), \d+, kernel_size=\((\d+), (\d+)\)")
_GROUPS: Final = re.compile(r"groups=(\d+)")
_LINEAR: Final = re.compile(r"Linear\(in_features=(\d+), out_features=(\d+)")
_FLOAT_BYTES: Final = 4
_FORMS: Final = (
    "NAME -- OPERATION -- forward_compute_time=…, activation_size=…, parameter_size=…, "
    "or a tab and NAME -- NAME"
)


@dataclass
class _Node:
    """A node of the file; times and sizes are those of a batch."""

    line: int
    operation: str
    ms: float
    activation_bytes: float
    parameter_bytes: float
    inputs: list[str] = field(default_factory=list)


def read_pipedream(
    path: Path | str, batch: int, node_type: str, result: str | None = None
) -> LayerGraph:
    """Read a layer graph of PipeDream.

    The input is no layer: the time to load it is left out. FLOPs are those of convolutions and
    linear layers, which their descriptions give; the file has none.

    Args:
        path: A ``graph.txt``.
        batch: Inputs in the batch that was measured: times and results are divided by it. With 1,
            a task is the whole batch.
        node_type: Name of the type of node on which it was measured.
        result: The node whose result is wanted; needed if several are read by no other, as in a
            network with a second head for training. What it does not need is left out.

    Returns:
        The graph, with the forward times as measured on ``node_type``. Layers keep the names of the
        file; the raw input is flat, of float32 numbers.

    Raises:
        ProfileError: If the file cannot be read, a line is of neither form, the nodes are no graph
            with one input and one result, or a linear layer shows another batch. The message names
            file, line and value.
    """
    nodes = _needed_by(path, _read(path), result)
    raw = _raw_input(path, nodes)
    order = _in_order(path, nodes, raw)
    _check_batch(path, nodes, batch)
    layers = tuple(_layer(path, name, nodes[name], raw, batch) for name in order)
    bits = _bits(path, nodes[raw], batch)
    measurement = Measurement(
        ms=tuple(nodes[name].ms / batch for name in order),
        method=f"PipeDream's {Path(path).name}: forward_compute_time divided by a batch of {batch}",
    )
    try:
        return LayerGraph(
            name=Path(path).stem,
            input_shape=(max(1, bits // (8 * _FLOAT_BYTES)),),
            input_bits=bits,
            layers=layers,
            measured={node_type: measurement},
        )
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error


def _read(path: Path | str) -> dict[str, _Node]:
    """Return the nodes by name, with the nodes that each of them reads."""
    nodes: dict[str, _Node] = {}
    edges: list[tuple[int, str, str]] = []
    for number, line in numbered_lines(path):
        if edge := _EDGE.fullmatch(line):
            edges.append((number, edge[1], edge[2]))
        elif node := _NODE.fullmatch(line):
            if node[1] in nodes:
                raise ProfileError(f"{path}:{number}: node {node[1]!r} is given twice")
            nodes[node[1]] = _node(path, number, node[2], node[3])
        else:
            raise ProfileError(f"{path}:{number}: {line[:40]!r} has no form allowed: {_FORMS}")
    if not nodes:
        raise ProfileError(f"{path}: has no node; allowed: lines of {_FORMS}")
    for number, source, reader in edges:
        for name in (source, reader):
            if name not in nodes:
                raise ProfileError(f"{path}:{number}: there is no node {name!r}")
        nodes[reader].inputs.append(source)
    return nodes


def _needed_by(
    path: Path | str, nodes: Mapping[str, _Node], result: str | None
) -> dict[str, _Node]:
    """Return the nodes that lead to the result."""
    read = {name for node in nodes.values() for name in node.inputs}
    results = [name for name in nodes if name not in read]
    if result is None and len(results) != 1:
        raise ProfileError(
            f"{path}: {len(results)} nodes are read by no other ({', '.join(results)}); "
            "allowed: one. Try: --result NAME"
        )
    if result is not None and result not in nodes:
        raise ProfileError(f"{path}: there is no node {result!r}; allowed: {', '.join(nodes)}")
    needed, waiting = set[str](), [result or results[0]]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += nodes[name].inputs
    return {name: node for name, node in nodes.items() if name in needed}


def _node(path: Path | str, number: int, operation: str, text: str) -> _Node:
    values = dict(_VALUE.findall(text))
    keys = ("forward_compute_time", "activation_size", "parameter_size")
    ms, activation, parameters = (_number(f"{path}:{number}: {k}", values.get(k)) for k in keys)
    return _Node(number, operation, ms, activation, parameters)


def _number(where: str, text: str | None) -> float:
    """Return a number that is at least 0; a list, of several results, is added up."""
    if text is None:
        raise ProfileError(f"{where}: is missing")
    return math.fsum(amount(where, each.strip()) for each in text.strip("[]").split(";"))


def _raw_input(path: Path | str, nodes: Mapping[str, _Node]) -> str:
    """Return the one node that reads no other."""
    first = [name for name, node in nodes.items() if not node.inputs]
    if len(first) != 1 or len(nodes) == 1:
        raise ProfileError(
            f"{path}: {len(first)} nodes read no other ({', '.join(first)}); "
            "allowed: one, the input, and others that read it"
        )
    return first[0]


def _in_order(path: Path | str, nodes: Mapping[str, _Node], raw: str) -> list[str]:
    """Return the nodes except the input such that each comes after those that it reads.

    Of the nodes that may come next, the first is that with the shortest, then lowest name: the
    file's names are numbered in the order of the forward pass.
    """
    order: list[str] = []
    done, waiting = {raw}, sorted(nodes.keys() - {raw}, key=lambda name: (len(name), name))
    while waiting:
        ready = next((name for name in waiting if done.issuperset(nodes[name].inputs)), None)
        if ready is None:
            line = nodes[waiting[0]].line
            raise ProfileError(f"{path}:{line}: node {waiting[0]!r} reads its own result")
        waiting.remove(ready)
        order.append(ready)
        done.add(ready)
    return order


def _check_batch(path: Path | str, nodes: Mapping[str, _Node], batch: int) -> None:
    """Raise if a linear layer shows that the batch was another one."""
    for node in nodes.values():
        if (linear := _LINEAR.match(node.operation)) and batch > 1:
            shown = node.activation_bytes / (_FLOAT_BYTES * int(linear[2]))
            if shown != batch:
                raise ProfileError(
                    f"{path}:{node.line}: {linear[2]} results of each input take "
                    f"{node.activation_bytes:,.0f} bytes, which is a batch of {shown:g}, not "
                    f"{batch}. Try: --batch {shown:g}, or --batch 1 if a task is a whole batch"
                )


def _layer(path: Path | str, name: str, node: _Node, raw: str, batch: int) -> Layer:
    return Layer(
        name=name,
        flops=_flops(node) // batch,
        parameter_bytes=round(node.parameter_bytes),
        output_bits=_bits(path, node, batch),
        inputs=tuple(RAW_INPUT if each == raw else each for each in dict.fromkeys(node.inputs)),
    )


def _bits(path: Path | str, node: _Node, batch: int) -> int:
    """Return the size of a node's result for one input, at least 1 bit."""
    bits = 8 * node.activation_bytes / batch
    if node.activation_bytes >= _FLOAT_BYTES * batch and not bits.is_integer():
        raise ProfileError(
            f"{path}:{node.line}: activation_size: {node.activation_bytes:,.0f} bytes cannot be "
            f"divided by a batch of {batch}"
        )
    return max(1, round(bits))


def _flops(node: _Node) -> int:
    """Return the FLOPs of a convolution or a linear layer for the batch, 0 for others."""
    numbers = round(node.activation_bytes) // _FLOAT_BYTES
    if found := _CONVOLUTION.match(node.operation):
        groups = _GROUPS.search(node.operation)
        channels = int(found[1]) // (int(groups[1]) if groups else 1)
        return 2 * numbers * channels * int(found[2]) * int(found[3])
    if found := _LINEAR.match(node.operation):
        return 2 * numbers * int(found[1])
    return 0
