"""Layer graphs of PipeDream, on a small file of the same form."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim.dnn.graph import Layer
from mecsim.dnn.pipedream import read_pipedream
from mecsim.errors import ProfileError

BATCH = 16


def node(name: str, operation: str, ms: float, numbers: int, parameters: int = 0) -> str:
    """A line of a node whose result has that many float32 numbers for each input."""
    return (
        f"{name} -- {operation} -- forward_compute_time={ms:.3f}, backward_compute_time=9.000, "
        f"activation_size={4 * BATCH * numbers}.000, parameter_size={parameters}.000"
    )


LINES = [
    node("node3", "ReLU(inplace)", 0.8, 128),
    node("node1", "Input", 99, 48),
    node("node2", "Conv2d(3, 8, kernel_size=(3, 3), padding=(1, 1))", 16, 128, 896),
    node("node10", "Linear(in_features=128, out_features=10, bias=True)", 3.2, 10, 5160),
    node("node4", "Conv2d(8, 8, kernel_size=(1, 3), groups=4)", 8, 128, 224),
    node("node9", "Add(inplace)", 1.6, 128),
    "\tnode3 -- node4",
    "\tnode1 -- node2",
    "\tnode2 -- node3",
    "\tnode3 -- node9",
    "\tnode4 -- node9",
    "\tnode9 -- node10",
]


def written(folder: Path, *lines: str) -> Path:
    path = folder / "graph.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_read(tmp_path: Path) -> None:
    graph = read_pipedream(written(tmp_path, *LINES), BATCH, "gpu")
    assert (graph.name, graph.input_shape, graph.input_bits) == ("graph", (48,), 48 * 32)
    assert graph.layers == (
        Layer("node2", 2 * 128 * 3 * 9, 896, 128 * 32, ("input",)),
        Layer("node3", 0, 0, 128 * 32, ("node2",)),
        Layer("node4", 2 * 128 * 2 * 3, 224, 128 * 32, ("node3",)),
        Layer("node9", 0, 0, 128 * 32, ("node3", "node4")),
        Layer("node10", 2 * 10 * 128, 5160, 10 * 32, ("node9",)),
    )
    assert graph.measured["gpu"].ms == (1.0, 0.05, 0.5, 0.1, 0.2)
    assert "divided by a batch of 16" in graph.measured["gpu"].method
    assert graph.legal_cuts() == ("node2", "node3", "node9")


def test_a_whole_batch_as_a_task(tmp_path: Path) -> None:
    graph = read_pipedream(written(tmp_path, *LINES), 1, "gpu")
    assert graph.measured["gpu"].ms == (16.0, 0.8, 8.0, 1.6, 3.2)
    assert graph.layers[-1] == Layer("node10", BATCH * 2560, 5160, BATCH * 320, ("node9",))


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_nodes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=r"graph\.txt: has no node; allowed: lines of NAME -- "):
        read_pipedream(path, 1, "gpu")


def test_several_results(tmp_path: Path) -> None:
    lines = [*LINES, node("node5", "Linear(in_features=128, out_features=4)", 1.6, 4)]
    path = written(tmp_path, *lines, "\tnode3 -- node5")
    with pytest.raises(ProfileError, match=r"graph\.txt: 2 nodes are read by no other \(node10, n"):
        read_pipedream(path, BATCH, "gpu")
    kept = read_pipedream(path, BATCH, "gpu", "node10")
    assert kept == read_pipedream(written(tmp_path, *LINES), BATCH, "gpu")
    with pytest.raises(ProfileError, match="there is no node 'node7'; allowed: node3, node1"):
        read_pipedream(path, BATCH, "gpu", "node7")


def test_several_tensors_of_a_node_add_up(tmp_path: Path) -> None:
    lines = [node("node1", "Input", 0, 4), node("node2", "LSTM", 1, 4)]
    lines[1] = lines[1].replace("activation_size=256.000", "activation_size=[64.0; 192.0]")
    assert read_pipedream(written(tmp_path, *lines, "\tnode1 -- node2"), BATCH, "gpu").layers == (
        Layer("node2", 0, 0, 4 * 32, ("input",)),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("something else", r"graph\.txt:13: 'something else' has no form allowed: NAME -- OPERAT"),
        ("\tnode4 -- node99", r"graph\.txt:13: there is no node 'node99'"),
        ("\tnode9 -- node3", r"graph\.txt:1: node 'node3' reads its own result"),
        (node("node4", "ReLU", 1, 8), r"graph\.txt:13: node 'node4' is given twice"),
        (
            node("node5", "Input", 1, 8) + "\n\tnode5 -- node9",
            r"graph\.txt: 2 nodes read no other \(node1, node5\); allowed: one, the input",
        ),
        (
            "node5 -- ReLU -- forward_compute_time=x, activation_size=1, parameter_size=0",
            r"graph\.txt:13: forward_compute_time: 'x' should be a number of at least 0",
        ),
        (
            "node5 -- ReLU -- forward_compute_time=1, activation_size=nan, parameter_size=0",
            r"graph\.txt:13: activation_size: 'nan' should be a number of at least 0",
        ),
        (
            "node5 -- ReLU -- forward_compute_time=1, activation_size=1",
            r"graph\.txt:13: parameter_size: is missing",
        ),
    ],
)
def test_invalid_lines(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read_pipedream(written(tmp_path, *LINES, line), BATCH, "gpu")


def test_another_batch_than_that_of_the_file(tmp_path: Path) -> None:
    message = r":4: 10 results .* 640 bytes, which is a batch of 16, not 8\. Try: --batch 16"
    with pytest.raises(ProfileError, match=message):
        read_pipedream(written(tmp_path, *LINES), 8, "gpu")


def test_a_batch_that_does_not_divide(tmp_path: Path) -> None:
    lines = [node("node1", "Input", 0, 4), node("node2", "ReLU", 1, 4), "\tnode1 -- node2"]
    with pytest.raises(ProfileError, match=r":2: activation_size: 256 bytes cannot be divided"):
        read_pipedream(written(tmp_path, *lines), 7, "gpu")


def test_a_graph_without_layers(tmp_path: Path) -> None:
    lines = (LINES[1],)
    with pytest.raises(ProfileError, match=r"graph\.txt: .*allowed: one"):
        read_pipedream(written(tmp_path, *lines), 1, "gpu")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"cannot read .*none\.txt: No such file"):
        read_pipedream(tmp_path / "none.txt", 1, "gpu")
    (tmp_path / "binary.txt").write_bytes(b"node1\xff")
    with pytest.raises(ProfileError, match=r"binary\.txt: is no text in UTF-8 \(byte 5\)"):
        read_pipedream(tmp_path / "binary.txt", 1, "gpu")
