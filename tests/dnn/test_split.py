"""Blocks of modules: their chain gives the bits of the whole, and cuts carry what profiles say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from mecsim.dnn.cuts import cut_at
from mecsim.dnn.graph import LayerGraph
from mecsim.dnn.profile_file import load_graph
from mecsim.dnn.profiler import _flop_counter, profile_module
from mecsim.dnn.split import Block, block_seconds, blocks_of, raw_input
from mecsim.dnn.zoo import MODELS
from mecsim.errors import ProfileError
from tests.helpers import modules
from tests.helpers.examples import examples

Tensors = Sequence[torch.Tensor]


def as_received(tensors: Tensors) -> list[torch.Tensor]:
    """Return copies that have gone through bytes, as those that are sent."""
    found = []
    for tensor in tensors:
        numbers = bytearray(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        found.append(torch.frombuffer(numbers, dtype=tensor.dtype).reshape(tensor.shape))
    return found


def as_given(tensors: Tensors) -> Tensors:
    return tensors


def chain(blocks: Sequence[Block], x: torch.Tensor, handing: Callable[[Tensors], Tensors]) -> Any:
    tensors: Tensors = (x,)
    for block in blocks:
        assert sizes(tensors) == [(spec.dtype, spec.shape) for spec in block.inputs]
        tensors = block(handing(tensors))
        assert sizes(tensors) == [(spec.dtype, spec.shape) for spec in block.outputs]
    return list(tensors)


def sizes(tensors: Tensors) -> list[tuple[str, tuple[int, ...]]]:
    return [(str(each.dtype).partition(".")[2], tuple(each.shape)) for each in tensors]


def whole(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        return pytree.tree_leaves(module.eval()(x))


def equal(one: Tensors, other: Tensors) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def check(
    module: nn.Module,
    graph: LayerGraph,
    cuts: Sequence[str],
    raw_type: str = "float32",
    input_type: str | None = None,
) -> tuple[Block, ...]:
    """Compare the blocks of a module with the whole module and with its profile."""
    blocks = blocks_of(module, graph.input_shape, cuts, raw_type=raw_type, input_type=input_type)
    stored = raw_input(graph.input_shape, raw_type, input_type)
    x = stored if input_type else stored.to(torch.float32)
    expected, before = whole(module, x.clone()), stored.clone()
    assert equal(chain(blocks, stored, as_received), expected)
    assert equal(chain(blocks, stored, as_given), expected)
    assert torch.equal(stored, before)
    planned = cut_at(graph, cuts, len(graph.layers))
    assert [8 * sum(spec.bytes for spec in each.inputs) for each in blocks] == [*planned.input_bits]
    assert 8 * sum(spec.bytes for spec in blocks[-1].outputs) == planned.output_bits
    assert [block.name for block in blocks] == [*planned.names]
    return blocks


# ---------------------------------------------------------------- shipped models


@pytest.mark.quick("alexnet", "vgg16")
@pytest.mark.parametrize(
    "name",
    ["alexnet", "nin", "resnet32", "vgg16", pytest.param("vgg16_224", marks=pytest.mark.slow)],
)
def test_shipped_models_cut_wherever_they_can_be(name: str) -> None:
    graph = load_graph(name)
    torch.manual_seed(1)
    module = MODELS[name].build()
    blocks = check(module, graph, graph.legal_cuts(), "uint8")
    counted = []
    tensors: Tensors = (raw_input(graph.input_shape, "uint8"),)
    for block in blocks:
        with _flop_counter() as counter:
            tensors = block(tensors)
        counted.append(counter.get_total_flops())
    assert counted == [*cut_at(graph, graph.legal_cuts()).flops]


# ---------------------------------------------------------------- what users may write


class SkipInPlace(nn.Module):
    """An activation changes in place a tensor that another layer has read before."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> Any:
        x = self.a(x)
        before = self.b(x)
        functional.relu(x, inplace=True)
        return before * self.c(x)


class Layouts(nn.Module):
    """Transposed tensors cross, and one whose elements share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 24), nn.Linear(5, 7)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.a(x).transpose(1, 2)
        return self.b(x), x[:, :1].expand(-1, 3, -1).sigmoid()


class SeveralValues(nn.Module):
    """One operation gives several tensors to later layers, and a shape is read much later."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> Any:
        out, (hidden, _) = self.lstm(x)
        best = out.max(1)
        scores = self.head(best.values + hidden[0])
        return {"scores": scores.view(x.size(0), -1) + torch.arange(x.shape[1] - 2), "at": best[1]}


class OfInput(nn.Module):
    """The raw input is changed in place, and is part of the result."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> Any:
        x.relu_()
        return self.b(self.a(x).tanh()), x


USERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "residual": (modules.Residual(inplace=False), (3, 8, 8)),
    "residual in place": (modules.Residual(), (3, 8, 8)),
    "preactivation in place": (modules.PreActivation(), (3, 8, 8)),
    "inception": (nn.Sequential(nn.Conv2d(3, 4, 1), modules.Inception()), (3, 6, 6)),
    "skip from input": (modules.SkipFromInput(), (8,)),
    "functional": (modules.Functional(), (3, 6, 6)),
    "tied": (modules.Tied(), (8,)),
    "torch.export": (modules.ShapeDependent(), (8,)),
    "two results": (modules.TwoResults(), (8,)),
    "early exit": (modules.EarlyExit(), (8,)),
    "unused": (modules.Unused(of_input=False), (8,)),
    "skip in place": (SkipInPlace(), (8,)),
    "layouts": (Layouts(), (5, 8)),
    "several values": (SeveralValues(), (5, 8)),
    "of input": (OfInput(), (8,)),
}


@pytest.mark.parametrize("name", USERS)
def test_modules_of_users(name: str) -> None:
    module, shape = USERS[name]
    torch.manual_seed(2)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    graph = profile_module(module, shape, name)
    legal = graph.legal_cuts(len(graph.layers))
    for cuts in {legal, legal[:1], legal[1::2]}:
        check(module, graph, cuts)


@pytest.mark.parametrize("causal", [False, True])
def test_encoder_of_tokens(causal: bool) -> None:
    module = modules.Tokens(causal)
    graph = profile_module(module, (5,), "tokens", input_type="int64")
    blocks = check(module, graph, graph.legal_cuts(), "int64", "int64")
    assert (blocks[0].inputs[0].dtype, blocks[0].inputs[0].bytes) == ("int64", 5 * 8)
    assert blocks[1].inputs[0].shape == (1, 5, 8)


def test_encoder_alone() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    module = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    graph = profile_module(module, (5, 8), "encoder")
    assert len(check(module, graph, graph.legal_cuts())) == 3


def test_an_image_of_bytes_crosses_as_bytes() -> None:
    module = modules.SkipFromInput()
    graph = profile_module(module, (8,), "skip", input_bits=64)
    blocks = check(module, graph, ["a"], "uint8")
    assert [spec.dtype for spec in blocks[1].inputs] == ["uint8", "float32"]


OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "relu": lambda a, _: functional.relu(a),
    "relu_": lambda a, _: functional.relu(a, inplace=True),
    "tanh": lambda a, _: a.tanh(),
    "add": lambda a, b: a + b,
    "add_": lambda a, b: a.add_(b),
    "drop": lambda a, _: functional.dropout(a, training=False),
}


class Program(nn.Module):
    """Layers, sums and activations, some in place, that read any earlier tensors."""

    def __init__(self, operations: Sequence[tuple[str, int, int]]) -> None:
        super().__init__()
        self.operations = operations
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in operations)

    def forward(self, x: torch.Tensor) -> Any:
        values, read = [self.layers[0](x)], set[int]()
        for layer, (kind, one, other) in zip(self.layers[1:], self.operations[1:], strict=True):
            a, b = one % len(values), other % len(values)
            read |= {a, b} if kind in ("add", "add_") else {a}
            values.append(self.computed(layer, kind, values[a], values[b]))
        return sum(value for n, value in enumerate(values) if n not in read)

    @staticmethod
    def computed(layer: nn.Module, kind: str, a: torch.Tensor, b: torch.Tensor) -> Any:
        return layer(a) if kind == "linear" else OPERATIONS[kind](a, b)


@pytest.mark.slow
@settings(max_examples=examples(200), deadline=None)
@given(
    operations=st.lists(
        st.tuples(
            st.sampled_from(["linear", "linear", *OPERATIONS]), st.integers(0, 9), st.integers(0, 9)
        ),
        min_size=2,
        max_size=10,
    ),
    data=st.data(),
)
def test_any_module_and_any_cuts(
    operations: Sequence[tuple[str, int, int]], data: st.DataObject
) -> None:
    torch.manual_seed(len(operations))
    module = Program(operations)
    graph = profile_module(module, (4,), "program")
    legal = graph.legal_cuts(len(graph.layers))
    chosen = data.draw(st.sets(st.sampled_from(legal))) if legal else set()
    check(module, graph, [name for name in legal if name in chosen])


# ---------------------------------------------------------------- refused


class ViewInPlace(nn.Module):
    """A part of a tensor is changed in place through a view, after the whole was read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.a(x)
        view = x[:, :4]
        y = self.b(x)
        view.mul_(2.0)
        return y + x, view


def test_views_changed_in_place_are_refused() -> None:
    graph = profile_module(ViewInPlace(), (8,), "view")
    assert "getitem" in graph.legal_cuts(9)
    with pytest.raises(ProfileError, match="computes something else in blocks: its result"):
        blocks_of(ViewInPlace(), (8,), ["getitem"])


def test_unknown_cuts_are_refused() -> None:
    with pytest.raises(ProfileError, match="cannot be cut after 'c': there is no such layer"):
        blocks_of(modules.SkipFromInput(), (8,), ["c"])


# ---------------------------------------------------------------- measuring


@pytest.mark.parametrize("clock_name", ["perf_counter_ns", "thread_time_ns"])
def test_block_seconds(clock_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(
        [0, 9000, 9000, 9500, 10_000, 14_000, 14_000, 14_500, 20_000, 25_000, 30_000, 30_700]
    )
    blocks = blocks_of(modules.SkipFromInput(), (8,), ["a"])
    monkeypatch.setattr(time, clock_name, lambda: next(clock))
    cpu_time, stored = clock_name == "thread_time_ns", raw_input((8,), "float32")
    found = block_seconds(blocks, stored, passes=2, warm_up=1, cpu_time=cpu_time)
    np.testing.assert_allclose(found, [[4e-6, 0.5e-6], [5e-6, 0.7e-6]], rtol=1e-12)
