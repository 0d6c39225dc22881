"""Files of profiles: what is written is read again, and profiles of several machines are joined."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.measurement import Measurement
from mecsim.dnn.profile_file import load_graph, merge_profiles, write_profile
from mecsim.errors import ProfileError

LAYERS = (Layer("a", 8, 4, 64, ("input",)), Layer("b", 2, 0, 32, ("a",), (("tied", 4),)))
TOY = LayerGraph("toy", (4,), 128, LAYERS, ("a",))
PI = Measurement(
    ms=(1.5, 0.25),
    method="by hand",
    interval_ms=((1.25, 1.75), (0.25, 0.25)),
    joules=(0.5, 0.125),
    whole_ms=2,
    machine={"cpu": "Cortex-A72", "cores": 4, "clock": 1.5},
)
RACK = Measurement((0.5, 0.125), "by hand")


def saved(
    folder: Path, name: str, measured: dict[str, Measurement], graph: LayerGraph = TOY
) -> str:
    """Write a profile and return its path."""
    path = folder / f"{name}.json"
    write_profile(replace(graph, measured=measured), path)
    return str(path)


@pytest.mark.parametrize("measured", [{}, {"pi": PI}, {"pi": PI, "the rack": RACK}])
def test_a_profile_is_read_as_it_was_written(
    tmp_path: Path, measured: dict[str, Measurement]
) -> None:
    path = saved(tmp_path, "toy", measured)
    assert load_graph(path) == replace(TOY, measured=measured)
    keys = ["name", "input_shape", "input_bits", "stages", *(["measured"] if measured else [])]
    assert [*json.loads(Path(path).read_text())] == [*keys, "layers"]


def test_what_was_not_measured_is_not_written(tmp_path: Path) -> None:
    document = json.loads(Path(saved(tmp_path, "toy", {"rack": RACK})).read_text())
    assert document["measured"] == {"rack": {"ms": [0.5, 0.125], "method": "by hand"}}


def test_merge(tmp_path: Path) -> None:
    other = replace(TOY, name="another name", stages=())
    files = [saved(tmp_path, "a", {"pi": PI}), saved(tmp_path, "b", {"rack": RACK}, other)]
    assert merge_profiles(files) == replace(TOY, measured={"pi": PI, "rack": RACK})
    assert merge_profiles(files[:1]) == replace(TOY, measured={"pi": PI})


def test_merge_the_same_type_twice(tmp_path: Path) -> None:
    files = [saved(tmp_path, name, {"pi": PI}) for name in ("a", "b")]
    message = r"b\.json: measured\.pi: is also in .*a\.json; allowed: each type of node once\. Ren"
    with pytest.raises(ProfileError, match=message):
        merge_profiles(files)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(TOY, input_bits=64), r"input_bits: is 64, but 128 in .*a\.json"),
        (replace(TOY, input_shape=(2, 2)), r"input_shape: is \(2, 2\), but \(4,\) in"),
        (
            replace(TOY, layers=(*LAYERS, Layer("c", 0, 0, 32, ("b",)))),
            "layers: are 3, but 2 in",
        ),
        (
            replace(TOY, layers=(LAYERS[0], replace(LAYERS[1], flops=3))),
            r"layers\.1\.flops: is 3, but 2 in",
        ),
    ],
)
def test_merge_profiles_of_different_networks(
    tmp_path: Path, other: LayerGraph, message: str
) -> None:
    rack = Measurement((0.5,) * len(other.layers), "by hand")
    files = [saved(tmp_path, "a", {"pi": PI}), saved(tmp_path, "b", {"rack": rack}, other)]
    with pytest.raises(ProfileError, match=rf"b\.json: {message}.*allowed: profiles of one netw"):
        merge_profiles(files)
