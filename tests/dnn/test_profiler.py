"""Counting modules: those that come with mecsim again, and what users may write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mecsim.dnn import profiler
from mecsim.dnn.cuts import cut_at, cut_balanced
from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.profile_file import load_graph, shipped, write_profile
from mecsim.dnn.profiler import profile_module
from mecsim.dnn.tracing import trace
from mecsim.dnn.zoo import MODELS, write_shipped
from mecsim.errors import OutputError, ProfileError
from tests.helpers.modules import (
    EarlyExit,
    Functional,
    Inception,
    Nothing,
    PreActivation,
    Residual,
    ShapeDependent,
    SkipFromInput,
    Tied,
    Tokens,
    TwoInputs,
    TwoResults,
    Unused,
    ValueDependent,
)


def total_flops(graph: LayerGraph) -> int:
    return sum(layer.flops for layer in graph.layers)


def named(graph: LayerGraph) -> dict[str, Layer]:
    return {layer.name: layer for layer in graph.layers}


# ---------------------------------------------------------------- shipped models


@pytest.fixture(scope="module")
def recounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    write_shipped(folder)
    return folder


@pytest.mark.parametrize("name", shipped())
def test_shipped_profiles_are_current(name: str, recounted: Path) -> None:
    shipped_file = resources.files("mecsim.dnn") / "profiles" / f"{name}.json"
    assert (recounted / f"{name}.json").read_bytes() == shipped_file.read_bytes()


@pytest.mark.parametrize("name", shipped())
def test_shipped_totals_equal_whole_module(name: str) -> None:
    """Without the profiler: PyTorch's own counter over the module, and its parameters."""
    model, graph = MODELS[name], load_graph(name)
    with torch.device("meta"), torch.no_grad():
        module = model.build().eval()
        with FlopCounterMode(display=False) as counter:
            result = module(torch.empty(1, *model.input_shape))
    assert total_flops(graph) == counter.get_total_flops()
    parameter_bytes = sum(4 * parameter.numel() for parameter in module.parameters())
    assert sum(layer.parameter_bytes for layer in graph.layers) == parameter_bytes
    assert graph.layers[-1].output_bits == 32 * result.numel()


@pytest.mark.parametrize(
    ("name", "layers", "legal", "million_macs", "million_parameters"),
    [
        ("alexnet", 11, 10, 62.7, 23.27),
        ("nin", 12, 11, 222.5, 0.97),  # Lin et al.'s network: 0.97 M parameters
        ("resnet32", 50, 17, 68.9, 0.46),  # He et al., table 6: 0.46 M; 69.1 MMAC with option B
        ("vgg16", 21, 20, 313.7, 15.25),
        ("vgg16_224", 21, 20, 15470.3, 138.36),  # torchvision's table: 15.47 GMAC, 138 357 544
    ],
)
def test_known_sizes(
    name: str, layers: int, legal: int, million_macs: float, million_parameters: float
) -> None:
    graph = load_graph(name)
    parameters = sum(layer.parameter_bytes for layer in graph.layers) / 4
    assert (len(graph.layers), len(graph.legal_cuts())) == (layers, legal)
    assert total_flops(graph) / 2e6 == pytest.approx(million_macs, abs=0.1)
    assert parameters / 1e6 == pytest.approx(million_parameters, abs=0.01)


def test_vgg16_by_hand() -> None:
    layers = named(load_graph("vgg16"))
    # conv1_2: 64 × 64 kernels of 3 × 3 at 32 × 32 places; no bias, but a scale and a shift
    expected = 2 * 64 * 64 * 9 * 32 * 32, 4 * (64 * 64 * 9 + 2 * 64), 32 * 64 * 32 * 32
    assert layers["conv1_2"] == Layer("conv1_2", *expected, ("conv1_1",))
    assert layers["pool1"] == Layer("pool1", 0, 0, 32 * 64 * 16 * 16, ("conv1_2",))
    assert layers["fc8"] == Layer("fc8", 2 * 512 * 10, 4 * (512 * 10 + 10), 32 * 10, ("fc7",))


# ---------------------------------------------------------------- what users may write


@pytest.mark.parametrize("inplace", [False, True])
def test_residual(inplace: bool) -> None:
    graph = profile_module(Residual(inplace), (3, 8, 8), "residual")
    assert [(layer.name, layer.inputs) for layer in graph.layers] == [
        ("stem", ("input",)),
        ("conv", ("stem",)),
        ("add", ("conv", "stem")),
        ("adaptive_avg_pool2d", ("add",)),
        ("head", ("adaptive_avg_pool2d",)),
    ]
    assert graph.legal_cuts() == ("stem", "add", "adaptive_avg_pool2d")
    assert named(graph)["conv"].flops == 2 * 8 * 8 * 9 * 64
    assert named(graph)["conv"].parameter_bytes == 4 * (8 * 8 * 9 + 8 + 2 * 8)


def test_preactivation_with_two_readers() -> None:
    graph = profile_module(PreActivation(inplace=False), (3, 8, 8), "preactivation")
    assert named(graph)["norm"].inputs == ("stem",)
    assert named(graph)["add"].inputs == ("stem", "conv")
    assert graph.legal_cuts() == ("stem", "add", "mean")


def test_inception() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Inception(), nn.Conv2d(9, 2, 1))
    graph = profile_module(module, (3, 6, 6), "inception")
    assert graph.legal_cuts() == ("0", "1.cat")
    assert named(graph)["1.cat"].inputs == ("1.one", "1.three.2", "1.pool")
    assert named(graph)["1.cat"].output_bits == 32 * 9 * 6 * 6
    assert len(cut_balanced(graph, 3)) == 3


def test_module_without_legal_cut() -> None:
    graph = profile_module(SkipFromInput(), (8,), "skip")
    assert graph.legal_cuts() == ()
    with pytest.raises(ProfileError, match="'skip' cannot be cut into 2 blocks: it has 0 legal"):
        cut_balanced(graph, 2)


def test_functional_style() -> None:
    graph = profile_module(Functional(), (3, 6, 6), "functional")
    layers = named(graph)
    assert [*layers] == ["conv2d", "max_pool2d", "linear"]
    assert [layers[name].parameter_bytes for name in layers] == [
        4 * 6 * 27,
        0,
        4 * (5 * 2 + 2 * 24),
    ]
    assert layers["linear"].flops == 2 * 5 * 2 * 24 + 2 * 5 * 24
    assert graph.input_bits == 32 * 3 * 6 * 6


@pytest.mark.parametrize("kind", [Tied, ShapeDependent])
def test_shared_parameters_count_once(kind: type[nn.Module]) -> None:
    graph = profile_module(kind(), (8,), "tied")
    assert [(layer.name, layer.parameter_bytes) for layer in graph.layers] == [
        ("a", 4 * 64),
        ("a_2", 0),
        ("b", 4 * 8),
    ]
    assert total_flops(graph) == 3 * 2 * 64


@pytest.mark.parametrize("kind", [Tied, ShapeDependent])
def test_shared_parameters_count_in_every_block_that_uses_them(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    graph = profile_module(kind(), (8,), "tied")
    assert cut_at(graph, []).parameter_bytes == (4 * 64 + 4 * 8,)
    assert cut_at(graph, ["a"]).parameter_bytes == (4 * 64, 4 * 64 + 4 * 8)  # both of a_2 and b
    assert cut_at(graph, ["a_2"]).parameter_bytes == (4 * 64, 4 * 64 + 4 * 8)
    assert cut_at(graph, ["a", "a_2"]).parameter_bytes == (4 * 64, 4 * 64, 4 * 64 + 4 * 8)
    write_profile(graph, tmp_path / "tied.json")
    assert load_graph(str(tmp_path / "tied.json")) == graph


class Product(nn.Module):
    """A function of the input and of parameters of the given shapes."""

    def __init__(self, function: Callable[..., torch.Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.tensors = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in shapes])

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, *self.tensors)


PRODUCTS: dict[str, tuple[tuple[int, ...], int, Product]] = {  # input shape, FLOPs
    "mv": ((5,), 2 * 8 * 5, Product(lambda x, a: a.mv(x[0]), (8, 5))),
    "matrix times vector": ((7, 5), 2 * 7 * 5, Product(lambda x, a: x[0] @ a, (5,))),
    "vector times matrix": ((5,), 2 * 5 * 8, Product(lambda x, a: x[0] @ a, (5, 8))),
    "addmv": ((5,), 2 * 8 * 5, Product(lambda x, a, b: torch.addmv(b, a, x[0]), (8, 5), (8,))),
    "dot": ((5,), 2 * 5, Product(lambda x, a: torch.dot(x[0], a)[None], (5,))),
    "vdot": ((5,), 2 * 5, Product(lambda x, a: torch.vdot(x[0], a)[None], (5,))),
    "inner": ((5,), 2 * 5, Product(lambda x, a: torch.inner(x[0], a)[None], (5,))),
    "bmm": ((3, 5), 2 * 3 * 5 * 8, Product(torch.bmm, (1, 5, 8))),
    "baddbmm": (
        (3, 5),
        2 * 3 * 5 * 8,
        Product(lambda x, a, b: torch.baddbmm(b, x, a), (1, 5, 8), (1, 3, 8)),
    ),
    "addbmm": (
        (3, 5),
        2 * 3 * 5 * 8,
        Product(lambda x, a, b: torch.addbmm(b, x, a), (1, 5, 8), (3, 8)),
    ),
    "einsum": ((5,), 2 * 5 * 8, Product(lambda x, a: torch.einsum("bi,oi->bo", x, a), (8, 5))),
    "linear": ((3, 5), 2 * 3 * 5 * 8, Product(functional.linear, (8, 5), (8,))),
    "conv_tbc": (
        (3, 5),  # one time step, padded to three, gives two
        2 * (2 * 3 * 8) * (2 * 5),
        Product(lambda x, a, b: torch.conv_tbc(x, a, b, 1), (2, 5, 8), (8,)),
    ),
    # the first input times the weight, 2·4·8·8, and that times the second, 2·4·8
    "bilinear": ((8,), 576, Product(lambda x, a: functional.bilinear(x, x, a), (4, 8, 8))),
    "bilinear of rows": (
        (3, 8),
        3 * 576,
        Product(lambda x, a: functional.bilinear(x, x, a), (4, 8, 8)),
    ),
    "outer": ((5,), 0, Product(lambda x, a: torch.outer(x[0], a), (8,))),  # nothing is summed
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_product_is_counted(name: str) -> None:
    shape, flops, module = PRODUCTS[name]
    assert total_flops(profile_module(module, shape, "product")) == flops


def test_a_bilinear_layer() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bilinear = nn.Bilinear(8, 8, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.bilinear(x, x)

    (layer,) = profile_module(Pair(), (8,), "pair").layers
    assert (layer.flops, layer.parameter_bytes) == (576, 4 * (4 * 8 * 8 + 4))


def test_fused_attention_and_recurrence() -> None:
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    products = 5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8 + 2 * 5 * 8 * 16
    assert total_flops(profile_module(attention, (5, 8), "encoder")) == 2 * products

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 16, batch_first=True)

        def forward(self, x: torch.Tensor) -> Any:
            return self.lstm(x)[0][:, -1]

    (lstm,) = profile_module(Last(), (5, 8), "lstm").layers
    assert lstm.flops == 2 * 5 * 4 * 16 * (8 + 16)
    assert lstm.output_bits == 32 * 16


def test_several_results_are_joined() -> None:
    graph = profile_module(TwoResults(), (8,), "two")
    assert [(layer.name, layer.inputs) for layer in graph.layers] == [
        ("a", ("input",)),
        ("b", ("input",)),
        ("output", ("a", "b")),
    ]
    assert graph.layers[-1] == Layer("output", 0, 0, 2 * 8 * 32, ("a", "b"))
    assert graph.legal_cuts() == ()
    assert graph.legal_cuts(2) == ("a", "b")


def test_a_result_crosses_the_cuts_behind_it() -> None:
    graph = profile_module(EarlyExit(), (8,), "early exit")
    assert [(layer.name, layer.inputs) for layer in graph.layers] == [
        ("a", ("input",)),
        ("exit", ("a",)),
        ("b", ("a",)),
        ("relu", ("b",)),
        ("head", ("relu",)),
        ("output", ("exit", "head", "b")),
    ]
    assert graph.layers[-1].output_bits == 32 * (2 + 4 + 8)
    blocks = cut_at(graph, ["a", "b", "relu"], live_tensors=3)
    assert [*blocks.input_bits] == [32 * 8, 32 * 8, 32 * (8 + 2), 32 * (8 + 8 + 2)]
    assert blocks.output_bits == 32 * 14


def test_several_tensors_of_one_layer_are_its_result() -> None:
    class Every(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 16, batch_first=True)

        def forward(self, x: torch.Tensor) -> Any:
            return self.lstm(x)

    (layer,) = profile_module(Every(), (5, 8), "lstm").layers
    assert (layer.name, layer.output_bits) == ("lstm", 32 * (5 * 16 + 16 + 16))


@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder_of_tokens_is_opened(causal: bool) -> None:
    graph = profile_module(Tokens(causal), (5,), "tokens", input_type="int64")
    assert [layer.name for layer in graph.layers] == [
        "embedding",
        "encoder.layers.0",
        "encoder.layers.1",
        "head",
    ]
    assert graph.legal_cuts() == ("embedding", "encoder.layers.0", "encoder.layers.1")
    assert graph.input_bits == 5 * 64
    encoder = named(graph)["encoder.layers.0"]
    # projections of q, k and v; scores and sums; output; two linear layers
    assert encoder.flops == 2 * (5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8 + 2 * 5 * 8 * 16)


def test_an_encoder_alone_is_opened() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    graph = profile_module(encoder, (5, 8), "encoder")
    assert [layer.name for layer in graph.layers] == ["layers.0", "layers.1", "layers.2"]


@pytest.mark.parametrize("causal", [False, True])
def test_an_opened_encoder_computes_what_it_computes_closed(causal: bool) -> None:
    module, tokens = Tokens(causal).eval(), torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(trace(module, tokens)(tokens), module(tokens))


def test_tokens_that_are_no_integers() -> None:
    with pytest.raises(ProfileError, match=r"model 'tokens' fails on an input of shape \(1, 5\)"):
        profile_module(Tokens(), (5,), "tokens")


def test_unused_results() -> None:
    (layer,) = profile_module(Unused(of_input=False), (8,), "unused").layers
    assert (layer.flops, layer.parameter_bytes) == (2 * 8 * (8 + 2), 4 * (72 + 18))


def test_result_in_a_dictionary() -> None:
    class Named(Tied):
        def forward(self, x: torch.Tensor) -> Any:
            return {"logits": super().forward(x)}

    assert profile_module(Named(), (8,), "named") == profile_module(Tied(), (8,), "named")


def test_elementwise_work_on_raw_input() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3))
    graph = profile_module(module, (3, 8, 8), "normalised")
    assert [layer.name for layer in graph.layers] == ["0", "2"]


def test_module_is_unchanged() -> None:
    module = Residual()
    before = copy.deepcopy(module.state_dict())
    profile_module(module, (3, 8, 8), "residual")
    assert module.training
    assert module.norm.training
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (TwoInputs(), (8,), r"has 2 inputs \(x, y\), must have one"),
        (Nothing(), (8,), "returns no tensor"),
        (Tied(), (7,), r"fails on an input of shape \(1, 7\): RuntimeError: "),
        (nn.Identity(), (8,), "computes nothing from its input"),
        (nn.LazyLinear(8), (8,), "cannot be copied: ValueError: .*uninitialized parameter"),
        (
            Unused(of_input=True),
            (8,),
            "has 128 FLOPs between its input and its result, but 160 in all; remove",
        ),
        (nn.ReLU(), (0,), "a layer's output_bits: 0 should be at least 1"),
        (ValueDependent(), (8,), r"neither by torch\.fx \(TraceError.*nor by torch\.export \("),
    ],
)
def test_unsupported_modules(module: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ProfileError, match=f"^model 'wrong'.*{message}") as caught:
        profile_module(module, shape, "wrong")
    assert "\n" not in str(caught.value)


def test_raw_input_of_no_bits() -> None:
    with pytest.raises(ProfileError, match=r"^model .wrong.: input_bits: 0 should be"):
        profile_module(nn.ReLU(), (8,), "wrong", input_bits=0)


# ---------------------------------------------------------------- files and factories


def test_write_profile_and_load_graph(tmp_path: Path) -> None:
    graph = profile_module(Residual(), (3, 8, 8), "mine", input_bits=1536, stages=("stem",))
    write_profile(graph, tmp_path / "mine.json")
    assert load_graph(str(tmp_path / "mine.json")) == graph


def test_write_profile_fails(tmp_path: Path) -> None:
    graph = profile_module(Tied(), (8,), "mine")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match=r"mine\.json: cannot be written: File exists"):
        write_profile(graph, tmp_path / "file" / "mine.json")


@pytest.mark.parametrize("given", [False, True])
def test_no_folder_for_caches_is_left(
    given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch makes it once in a process, when the first tensor without content is made."""
    made = tmp_path / "torchinductor"

    def mode(**_options: bool) -> str:
        made.mkdir(exist_ok=True)
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(made))
        return "mode"

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if given:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(made))
    monkeypatch.setattr("mecsim.dnn.profiler.FakeTensorMode", mode)
    assert str(profiler._fake_tensors()) == "mode"
    assert made.exists() == given
