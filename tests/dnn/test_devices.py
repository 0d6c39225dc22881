"""Times of whole networks by device, and profiles scaled to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim.dnn.devices import (
    INPUT_SIZES,
    Device,
    catalogue,
    find_device,
    read_benchmark,
    scaled,
    time_on,
)
from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.measurement import Measurement
from mecsim.dnn.profile_file import load_graph
from mecsim.errors import ProfileError

TABLE = """How to build it
### Little Board (Cortex-A1 x 2)
```
num_threads = 2
powersave = 0
gpu_device = -1
cooling_down = 1
             alexnet  min =   10.00  max =   12.00  avg =   11.50
               vgg16  min =   70.00  max =   75.00  avg =   72.25
          vgg16_int8  min =    1.00  max =    1.00  avg =    1.00
num_threads = 1
powersave = 0
gpu_device = -1
               vgg16  min =  140.00  max =  141.00  avg =  140.50
```
### Big Board
num_threads = 8
               vgg16  min =    5.00  max =    6.00  avg =    5.50
"""
ROW = "vgg16 min = 1 max = 2 avg = 1\n"
LAYERS = (
    Layer("a", 30, 4, 64, ("input",)),
    Layer("b", 10, 0, 32, ("a",)),
    Layer("c", 0, 0, 32, ("b",)),
)
TOY = LayerGraph(
    "toy", (3, 224, 224), 128, LAYERS, measured={"pc": Measurement((1.0, 2.0, 1.0), "by hand")}
)


@pytest.fixture
def table(tmp_path: Path) -> tuple[Device, ...]:
    (tmp_path / "table.md").write_text(TABLE, encoding="utf-8")
    return read_benchmark(tmp_path / "table.md")


def test_read_benchmark(table: tuple[Device, ...]) -> None:
    assert [(d.name, d.setting) for d in table] == [
        ("Little Board (Cortex-A1 x 2)", "threads=2,powersave=0,gpu=-1"),
        ("Little Board (Cortex-A1 x 2)", "threads=1,powersave=0,gpu=-1"),
        ("Big Board", "threads=8,powersave=0,gpu=-1"),
    ]
    assert table[0].ms == {"alexnet": 11.5, "vgg16": 72.25, "vgg16_int8": 1.0}
    assert (table[1].ms, table[1].source) == ({"vgg16": 140.5}, "table.md")


def test_find_device(table: tuple[Device, ...]) -> None:
    assert find_device(table, "big board") is table[2]
    assert find_device(table, "Little", "threads=1") is table[1]
    assert find_device(table, "Little", "gpu=-1, threads=2") is table[0]


@pytest.mark.parametrize(
    ("name", "run", "message"),
    [
        ("Huge", None, "'Huge': is not in the list; .*allowed: Little Board .*, Big Board"),
        ("Board", None, "'Board': is a part of 2 names; .*allowed: Little Board .*, Big Board"),
        ("Little", None, "has 2 runs; allowed: one of: threads=2,powersave=0,gpu=-1; threads=1"),
        ("Little", "threads=4", "0 runs fit 'threads=4'; allowed: one of: threads=2"),
        ("Little", "gpu=-1", "2 runs fit 'gpu=-1'; allowed: one of: threads=2"),
        ("Big", "cores=1", "0 runs fit 'cores=1'; allowed: one of: threads=8"),
    ],
)
def test_find_no_device(
    table: tuple[Device, ...], name: str, run: str | None, message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        find_device(table, name, run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("### Board\n", r"table\.md: has no line of the form NETWORK min = … max = … avg = …"),
        ("num_threads = 1\nvgg16  min = 1  max = 2  avg = 1\n", r"table\.md:2: has no line '### D"),
        (
            "### Board\nvgg16  min = 1  max = 2  avg = 1\n",
            r"table\.md:2: has no line .*num_threads",
        ),
        (
            f"### Board\nnum_threads = 1\n{ROW}gpu_device = 0\n" + ROW,
            r"table\.md:5: has no line .*num_threads = N",
        ),
        (
            "### Board\nnum_threads = 1\nvgg16  min = 1  max = 2  avg = x\n",
            r"table\.md:3: avg: 'x' should be a number of at least 0",
        ),
    ],
)
def test_read_invalid_benchmark(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.md").write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=message):
        read_benchmark(tmp_path / "table.md")


def test_scaled_as_measured_on_another_type() -> None:
    graph = scaled(TOY, "board", 72.0, "given", like="pc")
    assert [*graph.measured] == ["pc", "board"]
    board = graph.measured["board"]
    assert (board.ms, board.whole_ms, board.interval_ms) == ((18.0, 36.0, 18.0), 72.0, None)
    assert board.method == "72 ms, given, divided as measured on pc"


def test_scaled_by_flops() -> None:
    board = scaled(TOY, "board", 72.0, "given", like=None).measured["board"]
    assert (board.ms, board.method) == ((54.0, 18.0, 0.0), "72 ms, given, divided by FLOPs")


@pytest.mark.parametrize(
    ("node", "like", "message"),
    [
        ("pc", None, "'toy': already has measured times of 'pc'; allowed: each type of node once"),
        ("board", "cp", "'toy': has no measured times of 'cp'; .*allowed: pc"),
    ],
)
def test_scaled_invalid(node: str, like: str | None, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        scaled(TOY, node, 1.0, "given", like)


def test_scaled_without_flops() -> None:
    graph = LayerGraph("toy", (4,), 128, (Layer("a", 0, 0, 32, ("input",)),))
    with pytest.raises(ProfileError, match="divided by FLOPs, no layer takes time"):
        scaled(graph, "board", 1.0, "given", None)


def test_time_on(table: tuple[Device, ...]) -> None:
    assert time_on(table[0], "vgg16", TOY) == 72.25
    with pytest.raises(ProfileError, match=r"no time of 'vgg16_int8'; .*allowed: alexnet, vgg16"):
        time_on(table[0], "vgg16_int8", TOY)
    message = r"'vgg16' has an input of 3x32x32, and vgg16 of the table one of 3x224x224"
    with pytest.raises(ProfileError, match=message):
        time_on(table[0], "vgg16", load_graph("vgg16"))


def test_catalogue() -> None:
    devices = catalogue()
    names = [device.name for device in devices]
    assert len(set(names)) == len(names) >= 12
    assert all(device.source.startswith("Tencent/ncnn, benchmark/README.md") for device in devices)
    for device in devices:
        assert device.ms.keys() <= INPUT_SIZES.keys()
        assert len(device.ms) >= 10
        assert all(ms > 0 for ms in device.ms.values())
    pi = find_device(devices, "raspberry_pi_4")
    assert (pi.threads, pi.gpu, pi.ms["vgg16"], pi.ms["alexnet"]) == (4, -1, 547.09, 76.4)
