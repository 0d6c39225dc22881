"""Layer graphs, legal cuts, and blocks, on graphs small enough to work out by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mecsim.dnn.cuts import Blocks, cut_at, cut_balanced, cut_stages
from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.measurement import Measurement
from mecsim.dnn.profile_file import load_graph, shipped
from mecsim.errors import ProfileError


def graph(
    reads: dict[str, str], flops: Sequence[int] = (), stages: tuple[str, ...] = ()
) -> LayerGraph:
    """A graph from ``{"layer": "its inputs"}``; layer i emits 100 + i bits."""
    layers = tuple(
        Layer(name, flops[i] if flops else 10, 4 * i, 100 + i, tuple(inputs.split()))
        for i, (name, inputs) in enumerate(reads.items())
    )
    return LayerGraph("toy", (3, 2, 2), 96, layers, stages)


CHAIN = {"a": "input", "b": "a", "c": "b", "d": "c"}
RESIDUAL = {"a": "input", "b": "a", "c": "b", "add": "c a", "d": "add"}
INCEPTION = {
    "stem": "input",
    "one": "stem",
    "three": "stem",
    "five": "three",
    "concat": "one five",
    "fc": "concat",
}


# ---------------------------------------------------------------- legal cuts


@pytest.mark.parametrize(
    ("reads", "legal"),
    [
        pytest.param({"a": "input"}, (), id="one layer"),
        pytest.param(CHAIN, ("a", "b", "c"), id="chain"),
        pytest.param(RESIDUAL, ("a", "add"), id="residual block"),
        pytest.param(INCEPTION, ("stem", "concat"), id="branches and concatenation"),
        pytest.param(
            {"a": "input", "b": "a", "c": "b input", "d": "c"}, ("c",), id="skip from raw input"
        ),
        pytest.param({"a": "input", "b": "input", "c": "a b"}, (), id="two stems"),
        pytest.param({"a": "input", "b": "a", "c": "a b", "d": "a b c"}, ("a",), id="dense block"),
        pytest.param(
            {"a": "input", "b": "a", "c": "a", "add": "b c", "d": "add"},
            ("a", "add"),
            id="several readers of one tensor",
        ),
    ],
)
def test_legal_cuts(reads: dict[str, str], legal: tuple[str, ...]) -> None:
    assert graph(reads).legal_cuts() == legal


@st.composite
def graphs(draw: st.DrawFn) -> LayerGraph:
    """A random acyclic graph with one result."""
    count = draw(st.integers(1, 9))
    names = ["input", *(f"v{i}" for i in range(count))]
    reads = [
        draw(st.lists(st.sampled_from(names[: i + 1]), min_size=1, max_size=3, unique=True))
        for i in range(count)
    ]
    unread = [name for name in names[1:-1] if not any(name in inputs for inputs in reads)]
    reads[-1] = [*dict.fromkeys([*reads[-1], *unread])]
    return graph({name: " ".join(inputs) for name, inputs in zip(names[1:], reads, strict=True)})


@given(graphs())
def test_legal_cuts_are_dominators(toy: LayerGraph) -> None:
    """One tensor is live after v exactly if every path from the raw input to the result meets v."""
    dominator_of = nx.immediate_dominators(toy.graph, "input")
    dominators, name = set(), toy.layers[-1].name
    while (name := dominator_of[name]) not in (None, "input"):
        dominators.add(name)
    assert set(toy.legal_cuts()) == dominators


@given(graphs(), st.randoms(use_true_random=False))
def test_legal_cuts_in_any_topological_order(toy: LayerGraph, shuffle: random.Random) -> None:
    keys = {name: shuffle.random() for name in toy.graph}
    order = [*nx.lexicographical_topological_sort(toy.graph, key=keys.__getitem__)][1:]
    layers = {layer.name: layer for layer in toy.layers}
    other = LayerGraph("toy", (3, 2, 2), 96, tuple(layers[name] for name in order))
    assert other.legal_cuts() == toy.legal_cuts()
    assert cut_at(other, other.legal_cuts()).flops == cut_at(toy, toy.legal_cuts()).flops


@pytest.mark.parametrize(
    ("live_tensors", "legal"),
    [(1, ("a", "add")), (2, ("a", "b", "c", "add"))],
)
def test_cuts_with_several_live_tensors(live_tensors: int, legal: tuple[str, ...]) -> None:
    assert graph(RESIDUAL).legal_cuts(live_tensors) == legal


def test_the_sum_of_the_live_tensors_crosses() -> None:
    toy = graph(RESIDUAL)  # a, b, c, add and d emit 100 to 104 bits
    blocks = cut_at(toy, ["a", "b", "c", "add"], live_tensors=2)
    assert blocks.output_bits == 104
    assert [*blocks.input_bits] == [96, 100, 101 + 100, 102 + 100, 103]
    skip = graph({"a": "input", "b": "a input", "c": "b"})
    assert [*cut_at(skip, ["a"], 2).input_bits] == [96, 100 + 96]


@given(graphs())
def test_every_layer_is_a_cut_if_enough_tensors_may_cross(toy: LayerGraph) -> None:
    names = [layer.name for layer in toy.layers[:-1]]
    blocks = cut_at(toy, names, live_tensors=len(names) + 1)
    bits = {"input": 96} | {layer.name: layer.output_bits for layer in toy.layers}
    for position, found in enumerate(blocks.input_bits[1:], start=1):
        read = {name for layer in toy.layers[position:] for name in layer.inputs}
        before = ["input", *names[:position]]
        assert found == sum(bits[name] for name in before if name in read)


def test_cut_balanced_with_several_live_tensors() -> None:
    toy = graph(RESIDUAL, [4, 4, 4, 0, 0])
    assert cut_balanced(toy, 3, live_tensors=2).cuts == ("a", "b")
    with pytest.raises(ProfileError, match="it has 4 legal cuts"):
        cut_balanced(toy, 6, live_tensors=2)


def test_too_many_live_tensors() -> None:
    dense = graph({"a": "input", "b": "a", "c": "a b", "d": "a b c"})
    with pytest.raises(ProfileError, match=r"3 tensors are live there \(a, b, c\), and at most 2"):
        cut_at(dense, ["c"], live_tensors=2)


def test_graph_edges() -> None:
    edges = graph(RESIDUAL).graph.edges(data=True)
    assert {(producer, reader, tensor["bits"]) for producer, reader, tensor in edges} == {
        ("input", "a", 96),
        ("a", "b", 100),
        ("b", "c", 101),
        ("c", "add", 102),
        ("a", "add", 100),
        ("add", "d", 103),
    }


# ---------------------------------------------------------------- blocks


def test_cut_at_sums_layers() -> None:
    assert cut_at(graph(RESIDUAL, flops=[1, 2, 4, 8, 16]), ["a", "add"]) == Blocks(
        names=("a", "b..add", "d"),
        flops=(1, 14, 16),
        parameter_bytes=(0, 4 + 8 + 12, 16),
        input_bits=(96, 100, 103),
        output_bits=104,
        cuts=("a", "add"),
    )


def test_cut_at_keeps_branches_in_one_block() -> None:
    reads = INCEPTION | {"late": "concat", "end": "fc late"}
    assert cut_at(graph(reads), ["concat"]).names == ("stem..concat", "fc..end")


def test_blocks_take_the_sum_of_the_measured_times_of_their_layers() -> None:
    layers = graph(CHAIN).layers
    measured = {
        "phone": Measurement((1.5, 0.25, 0, 2), "by hand"),
        "rack": Measurement((0.5, 0.25, 0.125, 1), "by hand", joules=(8, 4, 2, 1)),
    }
    toy = LayerGraph("toy", (3, 2, 2), 96, layers, ("c",), measured)
    assert cut_at(toy, ["a", "c"]).service_ms == {"phone": (1.5, 0.25, 2), "rack": (0.5, 0.375, 1)}
    assert cut_at(toy, ["a", "c"]).joules == {"rack": (8, 6, 1)}
    assert cut_stages(toy).service_ms["phone"] == (1.75, 2)
    assert cut_balanced(toy, 4).service_ms["rack"] == (0.5, 0.25, 0.125, 1)
    assert cut_at(graph(CHAIN), []).service_ms == {}


def test_cut_at_without_cuts() -> None:
    whole = cut_at(graph(CHAIN), [])
    assert (len(whole), whole.flops, whole.input_bits) == (1, (40,), (96,))
    assert whole == cut_balanced(graph(CHAIN), 1)


def test_cut_stages() -> None:
    assert cut_stages(graph(CHAIN, stages=("b", "c"))).cuts == ("b", "c")


@pytest.mark.parametrize(
    ("flops", "blocks", "cuts"),
    [
        pytest.param([8, 1, 1, 8], 3, ("a", "c"), id="smallest largest block"),
        pytest.param([9, 1, 3, 2], 3, ("a", "c"), id="then most even"),
        pytest.param([5, 0, 0, 5], 2, ("a",), id="then fewest bits, then earliest"),
    ],
)
def test_cut_balanced_by_hand(flops: list[int], blocks: int, cuts: tuple[str, ...]) -> None:
    assert cut_balanced(graph(CHAIN, flops), blocks).cuts == cuts


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), min_size=1, max_size=9), st.data())
def test_cut_balanced_is_optimal(costs: list[tuple[int, int]], data: st.DataObject) -> None:
    names = ["input", *(f"v{i}" for i in range(len(costs)))]
    layers = tuple(
        Layer(names[i + 1], flops, 0, bits, (names[i],)) for i, (flops, bits) in enumerate(costs)
    )
    toy = LayerGraph("toy", (1,), 8, layers)
    blocks = data.draw(st.integers(1, len(layers)))

    def badness(cuts: tuple[str, ...]) -> tuple[float, float, float, list[int]]:
        cut = cut_at(toy, cuts)
        squares = sum((flops**2 for flops in cut.flops), start=0.0)
        return max(cut.flops), squares, sum(cut.input_bits), [names.index(name) for name in cuts]

    best = min(combinations(toy.legal_cuts(), blocks - 1), key=badness)
    assert cut_balanced(toy, blocks).cuts == best


# ---------------------------------------------------------------- shipped models


def test_shipped_models() -> None:
    assert shipped() == ("alexnet", "nin", "resnet32", "vgg16", "vgg16_224")


@pytest.mark.parametrize("name", shipped())
def test_cut_balanced_keeps_totals_of_shipped_models(name: str) -> None:
    model = load_graph(name)
    bits = {layer.name: layer.output_bits for layer in model.layers}
    largest = None
    for count in range(1, len(model.legal_cuts()) + 2):
        blocks = cut_balanced(model, count)
        assert len(blocks) == count
        assert sum(blocks.flops) == sum(layer.flops for layer in model.layers)
        assert sum(blocks.parameter_bytes) == sum(layer.parameter_bytes for layer in model.layers)
        assert blocks.input_bits == (model.input_bits, *(bits[cut] for cut in blocks.cuts))
        assert blocks.output_bits == model.layers[-1].output_bits
        assert largest is None or max(blocks.flops) <= largest  # more blocks, none larger
        largest = max(blocks.flops)


@pytest.mark.parametrize("name", shipped())
def test_stages_of_shipped_models(name: str) -> None:
    model = load_graph(name)
    assert cut_stages(model).cuts == model.stages
    assert len(cut_stages(model)) >= 5


def test_stages_of_vgg16() -> None:
    blocks = cut_stages(load_graph("vgg16"))
    sizes = [64 * 16**2, 128 * 8**2, 256 * 4**2, 512 * 2**2, 512]
    assert blocks.input_bits == (32 * 32 * 3 * 8, *(32 * size for size in sizes))
    assert blocks.names[-1] == "fc6..fc8"


def test_legal_cuts_of_resnet32() -> None:
    adds = [f"block{stage}_{index}.add" for stage in (1, 2, 3) for index in (1, 2, 3, 4, 5)]
    assert load_graph("resnet32").legal_cuts() == ("conv1", *adds, "pool")


def test_cutting_does_not_import_torch() -> None:
    program = (
        "import sys; from mecsim.dnn.cuts import cut_balanced;"
        "from mecsim.dnn.profile_file import load_graph;"
        "cut_balanced(load_graph('vgg16'), 6);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        pytest.param(["ad"], r"no such layer; did you mean 'add'\? allowed: a, add", id="typo"),
        pytest.param(["b"], r"2 tensors are live there \(a, b\).*allowed: a, add", id="inside"),
        pytest.param(["d"], "it is the last layer", id="last layer"),
        pytest.param(["input"], "no such layer", id="raw input"),
        pytest.param(["a", "a"], "after 'a' is given twice", id="twice"),
        pytest.param(["add", "a"], "after 'a' must come before 'add'", id="out of order"),
    ],
)
def test_illegal_cuts(cuts: list[str], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        cut_at(graph(RESIDUAL), cuts)


def test_illegal_cut_names_raw_input() -> None:
    with pytest.raises(ProfileError, match=r"2 tensors are live there \(input, a\)"):
        cut_at(graph({"a": "input", "b": "a input"}), ["a"])


def test_cut_stages_without_stages() -> None:
    with pytest.raises(ProfileError, match="'toy' names no stages"):
        cut_stages(graph(CHAIN))


@pytest.mark.parametrize("blocks", [-1, 0, 5])
def test_cut_balanced_invalid_number(blocks: int) -> None:
    message = f"'toy' cannot be cut into {blocks} blocks: it has 3 legal cuts.* from 1 to 4"
    with pytest.raises(ProfileError, match=message):
        cut_balanced(graph(CHAIN), blocks)


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        pytest.param({"a": "input", "b": "A"}, "'b' reads 'A', which is no earlier", id="unknown"),
        pytest.param({"a": "b", "b": "input"}, "'a' reads 'b', which is no earlier", id="order"),
        pytest.param({"a": "input", "b": "input"}, "nothing reads the output of a", id="dead end"),
        pytest.param({"input": "input"}, "name 'input' is already taken", id="reserved name"),
    ],
)
def test_invalid_wiring(reads: dict[str, str], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        graph(reads)


@pytest.mark.parametrize("reads", [{"a": ""}, {}])
def test_graph_without_inputs_or_layers(reads: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="should have at least 1 item"):
        graph(reads)


def test_illegal_stages() -> None:
    with pytest.raises(ProfileError, match="cannot be cut after 'b'"):
        graph(RESIDUAL, stages=("b",))


def test_unknown_model() -> None:
    with pytest.raises(ProfileError, match=r"'vgg61'; did you mean 'vgg16'\? allowed: alexnet"):
        load_graph("vgg61")


LAYER = {"name": "a", "flops": 8, "parameter_bytes": 0, "output_bits": 64, "inputs": ["input"]}
PROFILE: dict[str, Any] = {
    "name": "mine",
    "input_shape": [4],
    "input_bits": 128,
    "stages": [],
    "layers": [LAYER],
}


def test_load_own_profile(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(PROFILE))
    assert load_graph(str(path)) == LayerGraph(
        "mine", (4,), 128, (Layer("a", 8, 0, 64, ("input",)),)
    )


def test_integers_of_a_profile_may_have_an_exponent(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    text = json.dumps(PROFILE).replace("[4]", "[4.0]").replace("128", "1.28e2")
    path.write_text(text.replace('"flops": 8', '"flops": 12.5e6'))
    graph = load_graph(str(path))
    assert (graph.layers[0].flops, graph.input_bits, graph.input_shape) == (12_500_000, 128, (4,))
    assert type(graph.layers[0].flops) is int


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input_bits": 12.5}, "input_bits: 12.5 should be a valid integer"),
        ({"input_bits": 1e300}, r"input_bits: 1e\+300 should be a valid integer"),
        ({"input_bits": 0}, "input_bits: 0 should be at least 1"),
        ({"input_bits": True}, "input_bits: True should be a valid integer"),
        ({"input_bits": 1e-3}, "input_bits: 0.001 should be a valid integer"),
        ({"input_shape": [3, 0]}, "input_shape.1: 0 should be at least 1"),
        ({"input_shape": 3}, "input_shape: 3 should be a list"),
        ({"input_shape": []}, r"input_shape: \[\] should have at least 1 item, not 0"),
        ({"name": ""}, "name: '' should have at least 1 character"),
        ({"stages": "a"}, "stages: 'a' should be a list"),
        ({"layers": 7}, "layers: 7 should be a list"),
        ({"layers": ["a"]}, "layers.0: 'a' should be an object"),
        ({"layers": [{"name": "a"}]}, "layers.0.flops: is missing"),
        ({"layers": [LAYER | {"flops": -1}]}, "layers.0.flops: -1 should be at least 0"),
        (
            {"layers": [LAYER | {"inputs": []}]},
            r"layers.0.inputs: \[\] should have at least 1 item",
        ),
        ({"layers": [LAYER | {"flop": 1}]}, "layers.0.flop: is not a known key; .* 'flops'"),
        ({"stagse": []}, r"stagse: is not a known key; did you mean 'stages'\? allowed: name, "),
    ],
)
def test_load_invalid_profile(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(PROFILE | wrong))
    with pytest.raises(ProfileError, match=f"mine.json: .*{message}"):
        load_graph(str(path))


MEASURED: dict[str, Any] = {"ms": [1.5], "method": "by hand"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ms": [1.5, 2]}, "measured.pi.ms: has 2 values; allowed: 1, one for each layer"),
        ({"ms": [-1]}, "measured.pi.ms.0: -1 should be at least 0"),
        ({"ms": ["1"]}, "measured.pi.ms.0: '1' should be a valid number"),
        ({"ms": [float("nan")]}, "measured.pi.ms.0: nan should be a finite number"),
        ({"ms": []}, r"measured.pi.ms: \[\] should have at least 1 item"),
        ({"method": ""}, "measured.pi.method: '' should have at least 1 character"),
        ({"joules": [1, 2]}, "joules: has 2 values; allowed: 1, one for each layer"),
        ({"interval_ms": [[2, 1]]}, r"interval_ms.0: \[2, 1\]; allowed: the lower end first"),
        ({"whole_ms": -1}, "measured.pi.whole_ms: -1 should be at least 0"),
        ({"machine": {"cores": []}}, r"machine.cores: \[\] should be a text or a finite number"),
        ({"msec": [1]}, r"measured.pi.msec: is not a known key; did you mean 'ms'\?"),
    ],
)
def test_load_invalid_measurement(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(PROFILE | {"measured": {"pi": MEASURED | wrong}}))
    with pytest.raises(ProfileError, match=f"mine.json: .*{message}"):
        load_graph(str(path))


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_load_profile_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"mine\.json is not a JSON file"):
        load_graph(str(path))


def test_load_profile_not_an_object(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("[]")
    with pytest.raises(ProfileError, match=r"mine.json: the document: \[\] should be an object"):
        load_graph(str(path))


def test_load_missing_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"cannot read .*none\.json: No such file"):
        load_graph(str(tmp_path / "none.json"))
