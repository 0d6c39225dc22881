"""Finding the modules of profiles."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mecsim.dnn.graph import LayerGraph
from mecsim.dnn.modules import ModuleSource, modules_for
from mecsim.dnn.profile_file import load_graph
from mecsim.dnn.profiler import profile_module
from mecsim.errors import ProfileError
from tests.helpers import modules

HERE = "tests.helpers.modules"


def profile(kind: str, shape: tuple[int, ...], input_type: str | None = None) -> LayerGraph:
    return profile_module(getattr(modules, kind)(), shape, "mine", input_type=input_type)


def test_shipped_modules_are_found_by_their_layers() -> None:
    graph = replace(load_graph("alexnet"), name="mine", stages=())
    (source,) = modules_for([graph])
    assert source == ModuleSource("alexnet", (3, 32, 32), "uint8", None)
    as_numbers = replace(graph, input_bits=4 * graph.input_bits)
    assert modules_for([as_numbers]) == [replace(source, raw_type="float32")]


def test_blocks_of_a_source_that_was_sent() -> None:
    (source,) = modules_for([load_graph("nin")])
    sent = json.loads(json.dumps(dataclasses.asdict(source)))
    blocks = ModuleSource(**sent).blocks(["pool1", "pool2"])
    tensors: tuple[torch.Tensor, ...] = (source.raw_input(),)
    assert tensors[0].dtype == torch.uint8
    for block in blocks:
        tensors = block(tensors)
    with torch.inference_mode():
        whole = source.build().eval()(source.raw_input().float())
    assert torch.equal(tensors[0], whole)


def test_weights_do_not_depend_on_earlier_random_numbers() -> None:
    source = ModuleSource("nin", (3, 32, 32), "uint8", None)
    state = torch.get_rng_state()
    first = source.build().state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert all(torch.equal(first[key], each) for key, each in source.build().state_dict().items())


@pytest.mark.parametrize(
    ("kind", "shape", "input_type", "expected"),
    [
        ("Tied", (8,), None, ("float32", "float32")),
        ("Tokens", (5,), "int64", ("int64", "int64")),
        ("EarlyExit", (8,), None, ("float32", "float32")),
    ],
)
def test_factories(
    kind: str, shape: tuple[int, ...], input_type: str | None, expected: tuple[str, str]
) -> None:
    graph = profile(kind, shape, input_type)
    (source,) = modules_for([graph], [f"mine={HERE}:{kind}"])
    assert (source.raw_type, source.input_type) == expected


def test_images_are_bytes_for_modules_that_take_floats() -> None:
    graph = replace(profile("Residual", (3, 8, 8)), input_bits=8 * 3 * 8 * 8)
    (source,) = modules_for([graph], [f"mine={HERE}:Residual"])
    assert (source.raw_type, source.input_type) == ("uint8", None)


def test_a_factory_goes_before_shipped_modules(tmp_path: Path) -> None:
    file = tmp_path / "other.py"
    file.write_text("from mecsim.dnn.zoo import nin\n", encoding="utf-8")
    graphs = [load_graph("nin"), load_graph("alexnet"), load_graph("nin")]
    found = modules_for(graphs, [f"nin={file}:nin"])
    assert [source.factory for source in found] == [f"{file}:nin", "alexnet", f"{file}:nin"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"model 'mine': no module is known\. .*Try: --module mine=package\.module:factory"),
        (["mine"], "--module mine: names no model; allowed: NAME=package.module:factory or NAME="),
        (["=a:b"], "--module =a:b: names no model"),
        (["mien=a:b"], "no tasks run a model 'mien'; did you mean 'mine'. allowed: mine"),
        (["mine=a:b", "mine=a:c"], "--module mine=a:c: 'mine' is given twice"),
        (["mine=a"], "--module mine: 'a' names no factory"),
        (["mine=no_such:b"], "--module mine: 'no_such:b': importing 'no_such' fails"),
        ([f"mine={HERE}:TwoInputs"], "--module mine=.*: model 'mine' has 2 inputs"),
        (
            [f"mine={HERE}:EarlyExit"],
            "not the one of the profile: layers: are 3, but 6 in the module. Try: `mecsim profile",
        ),
    ],
)
def test_refused(given: list[str], message: str) -> None:
    with pytest.raises(ProfileError, match=message) as caught:
        modules_for([profile("Tied", (8,))], given)
    assert "\n" not in str(caught.value)


def test_inputs_of_no_type() -> None:
    graph = replace(profile("Tied", (8,)), input_bits=100)
    with pytest.raises(ProfileError, match=r"input_bits: 100 is not the size of a tensor of 8 num"):
        modules_for([graph], [f"mine={HERE}:Tied"])
    with pytest.raises(ProfileError, match="input_bits: 5 is not the size"):
        modules_for([replace(load_graph("nin"), input_bits=5)])
