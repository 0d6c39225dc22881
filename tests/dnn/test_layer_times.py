"""Times of layers from CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.layer_times import read_layer_times
from mecsim.dnn.measurement import Measurement
from mecsim.errors import ProfileError

TOY = LayerGraph("toy", (4,), 128, (Layer("a", 8, 4, 64, ("input",)), Layer("b", 2, 0, 32, ("a",))))


def read(folder: Path, text: str) -> Measurement:
    path = folder / "times.csv"
    path.write_text(text, encoding="utf-8")
    return read_layer_times(path, TOY)


def test_read(tmp_path: Path) -> None:
    assert read(tmp_path, "layer,ms\nb,0.25\na,1.5\n") == Measurement(
        (1.5, 0.25), "read from times.csv"
    )


def test_read_with_energy(tmp_path: Path) -> None:
    text = "\ufefflayer, ms, joules\n\na, 1.5, 3e-3\nb, 0, 1e-4\n"
    assert read(tmp_path, text) == Measurement((1.5, 0), "read from times.csv", joules=(3e-3, 1e-4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"times\.csv:1: the header is 'nothing'; allowed: layer,ms\[,joules\]"),
        ("\nlayer,seconds\na,1\n", r"times\.csv:2: the header is 'layer,seconds'; allowed"),
        ("layer,ms\na,1\n", r"times\.csv: these layers have no time: b$"),
        ("layer,ms\na,1\nA,1\n", r"times\.csv:3: there is no layer 'A'; .*allowed: a, b"),
        ("layer,ms\na,1\n\na,2\n", r"times\.csv:4: layer 'a' is given twice"),
        ('layer,ms\n"a,1\nb,2\n', r"times\.csv:2: has 1 values; allowed: 2"),
        ("layer,ms\n" + "a" * 200_000, r"times\.csv:2: field larger than field limit"),
        ("layer,ms\na\n", r"times\.csv:2: has 1 values; allowed: 2"),
        ("layer,ms\na,fast\n", r"times\.csv:2: ms: 'fast' should be a number of at least 0"),
        ("layer,ms\na,-1\n", r"times\.csv:2: ms: '-1' should be a number of at least 0"),
        ("layer,ms,joules\na,1,inf\n", r"times\.csv:2: joules: 'inf' should be a number"),
        ("layer,ms\na,nan\n", r"times\.csv:2: ms: 'nan' should be a number of at least 0"),
    ],
)
def test_invalid(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read(tmp_path, text)
