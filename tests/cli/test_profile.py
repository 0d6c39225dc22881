"""`mecsim profile`: measured times, imports, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.measurement import Measurement
from mecsim.dnn.profile_file import load_graph, write_profile
from tests.helpers.cli import answer, mecsim

LAYERS = (Layer("a", 30, 4, 64, ("input",)), Layer("b", 10, 0, 32, ("a",)))
NETS = """
import torch
from torch import nn

class Skip(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding, self.a, self.b = nn.Embedding(9, width), *(nn.Linear(width, width),) * 2
    def forward(self, x):
        x = self.embedding(x)
        return x + self.b(self.a(x)), x

def net(width=4):
    return Skip(width)
"""
GRAPH = """node1 -- Input -- forward_compute_time=0, activation_size=512, parameter_size=0
node2 -- Linear(in_features=16, out_features=4) -- forward_compute_time=4, \
activation_size=128, parameter_size=272
node3 -- ReLU -- forward_compute_time=2, activation_size=128, parameter_size=0
\tnode1 -- node2
\tnode2 -- node3
""".replace("\\\n", "")
TABLE = """### Board (Cortex-A1)
num_threads = 1
vgg16  min = 9  max = 11  avg = 10
num_threads = 2
vgg16  min = 5  max = 7  avg = 6
"""


def saved(path: Path, *types: str, size: int = 4) -> str:
    measured = {node: Measurement((1.0, 3.0), "by hand") for node in types}
    write_profile(LayerGraph("toy", (3, size, size), 128, LAYERS, (), measured), path)
    return str(path)


def test_measure_a_module_of_a_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    out = tmp_path / "skip.json"
    document = answer(
        "profile", f"{tmp_path / 'nets.py'}:net", "--argument", "width=2", "--input-shape", "5",
        "--input-type", "int64", "--measure", "--type", "laptop", "--warm-up", "0",
        "--repetitions", "6", "--threads", "1", "--save", str(out), "--live-tensors", "2",
        "--cut", "embedding,a",
    )  # fmt: skip
    measured = document["measured"]["laptop"]
    assert load_graph(str(out)).measured["laptop"].ms == tuple(measured["ms"])
    assert [block["ms"]["laptop"] > 0 for block in document["blocks"]] == [True] * 3
    assert [block["input_bits"] for block in document["blocks"]] == [5 * 64, 320, 2 * 320]
    shown = mecsim("profile", str(out)).stdout
    assert "laptop (ms)" in shown
    assert "% of a whole pass of" in shown
    assert "threads 1" in shown


def test_measure_a_shipped_model() -> None:
    pytest.importorskip("torch")
    options = ("--measure", "--cpu-time", "--warm-up", "0", "--repetitions", "6", "--type", "here")
    document = answer("profile", "nin", "--cut", "stages", *options)
    assert len(document["blocks"]) == 6
    assert all(block["ms"]["here"] > 0 for block in document["blocks"])


def test_merge(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{name}.json", name) for name in ("pi", "rack")]
    both = tmp_path / "both.json"
    mecsim("profile", "--merge", *files, "--save", str(both))
    assert [*load_graph(str(both)).measured] == ["pi", "rack"]
    done = mecsim("profile", "--merge", str(both), files[1], "--save", str(tmp_path / "no"), code=2)
    assert "measured.rack: is also in" in done.stderr
    assert not (tmp_path / "no").exists()


def test_times_of_a_csv_file(tmp_path: Path) -> None:
    times = tmp_path / "times.csv"
    times.write_text("layer,ms\na,1.5\nb,0.5\n", encoding="utf-8")
    toy = saved(tmp_path / "toy.json")
    document = answer("profile", toy, "--times", str(times), "--type", "pi", "--cut", "a")
    assert [block["ms"] for block in document["blocks"]] == [{"pi": 1.5}, {"pi": 0.5}]


def test_a_graph_of_pipedream(tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(GRAPH, encoding="utf-8")
    document = answer("profile", str(path), "--batch", "8", "--type", "gpu", "--cut", "node2")
    assert [block["ms"]["gpu"] for block in document["blocks"]] == [0.5, 0.25]
    assert [block["cycles"] for block in document["blocks"]] == [2 * 16 * 4, 0]
    done = mecsim("profile", str(path), "--type", "gpu", code=2)
    assert "needs --batch N" in done.stderr


def test_scale_to_a_device(tmp_path: Path) -> None:
    toy, table = saved(tmp_path / "toy.json", "pc", size=224), tmp_path / "table.md"
    table.write_text(TABLE, encoding="utf-8")
    scale = ("profile", toy, "--network", "vgg16", "--like", "pc", "--device")
    document = answer(*scale, "raspberry_pi_4")
    assert document["measured"]["raspberry_pi_4"]["ms"] == [547.09 / 4, 547.09 * 3 / 4]
    options = ("--benchmark", str(table), "--type", "board")
    document = answer(*scale, "Board", *options, "--run", "threads=2")
    assert document["measured"]["board"]["ms"] == [1.5, 4.5]
    assert "has 2 runs" in mecsim(*scale, "Board", *options, code=2).stderr


def test_scale_to_a_time(tmp_path: Path) -> None:
    toy = saved(tmp_path / "toy.json", "pc")
    scale = ("profile", toy, "--whole-ms", "8", "--type", "phone", "--like")
    assert answer(*scale, "pc")["measured"]["phone"]["ms"] == [2, 6]
    assert answer(*scale, "flops")["measured"]["phone"]["ms"] == [6, 2]


def test_devices() -> None:
    rows = answer("profile", "--devices")["devices"]
    assert {"name", "description", "threads", "gpu", "source", "ms"} <= rows[0].keys()
    shown = mecsim("profile", "--devices").stdout
    assert "rk3588" in shown
    assert "Tencent/ncnn" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "2"), "--threads: only valid with --measure"),
        (("--warm-up", "2"), "--warm-up: only valid with --measure"),
        (("--cpu-time",), "--cpu-time: only valid with --measure"),
        (("--batch", "2"), "--batch: only valid with a layer graph of PipeDream"),
        (("--result", "a"), "--result: only valid with a layer graph of PipeDream"),
        (("--argument", "a=1"), "--argument: only valid with package.module:factory or file.py:"),
        (("--input-type", "int64"), "--input-type: only valid with package.module:factory"),
        (("--network", "vgg16"), "--network: only valid with --device"),
        (("--benchmark", "table.md"), "--benchmark: only valid with --device"),
        (("--like", "pc"), "--like: only valid with --device or --whole-ms"),
        (("--type", "pc"), "--type: only valid with times of that type of node"),
        (("--list", "--merge"), "--merge: only valid with a MODEL"),
        (
            ("--whole-ms", "1", "--like", "flops", "--type", "formula"),
            "measured.formula: names what is not measured; allowed: another type",
        ),
        (("--device", "rk3588", "--like", "pc"), "--device rk3588: needs --network NAME"),
        (("--whole-ms", "8", "--type", "x"), "--like: is needed .* allowed: pc, flops"),
        (
            ("--device", "rk3588", "--network", "vgg16", "--like", "flops"),
            "'toy' has an input of 3x4x4, and vgg16 of the table one of 3x224x224",
        ),
        (("--whole-ms", "8", "--like", "pc"), "--whole-ms: needs --type NAME"),
        (("--whole-ms", "0", "--like", "pc", "--type", "x"), "--whole-ms: 0 should be a number ab"),
        (("--whole-ms", "8", "--like", "pc", "--type", "pc"), "already has measured times of 'pc'"),
        (("--times", "times.csv"), "--times times.csv: needs --type NAME"),
        (("--times", "none.csv", "--type", "pi"), "cannot read none.csv: No such file"),
        (("another.json",), "another.json: is a second MODEL. Try: --merge"),
        (("--measure",), "toy.json is no module that can run; allowed: alexnet, .*file.py:factory"),
        (("--merge", "--measure"), "--measure: only valid with one module"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--measure" in arguments:
        pytest.importorskip("torch")
    saved(tmp_path / "toy.json", "pc")
    done = mecsim("profile", "toy.json", *arguments, "--save", "no.json", code=2)
    (line,) = done.stderr.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "no.json").exists()


def test_a_measured_profile_keeps_its_times_when_saved_again(tmp_path: Path) -> None:
    toy = saved(tmp_path / "toy.json", "pc")
    mecsim("profile", toy, "--save", str(tmp_path / "again.json"))
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(Path(toy).read_text())
