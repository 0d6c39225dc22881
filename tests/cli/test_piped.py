"""What commands print into a pipe or a file."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
from rich.table import Table

from mecsim.cli import output
from tests.helpers.cli import answer


def test_piped_lines_are_neither_broken_nor_padded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(title="a title that is wider than its table, seed 0: ends here", box=None)
    table.add_column("name")
    table.add_column("meaning")
    table.add_row("short", "x" * 150)
    table.add_row("long " * 10, "")
    output.show(table, "", "y" * 200)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a title that is wider than its table, seed 0: ends here"
    assert [line for line in lines if line != line.rstrip()] == []
    assert len(lines) == 6
    assert "x" * 150 in lines[2]


def test_a_given_width_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    table = Table(box=None)
    table.add_column("words")
    table.add_row("word " * 30)
    output.show(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 90


def test_warnings_of_torch_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "noisy_factory.py").write_text(
        "import warnings, torch\n"
        "def make():\n"
        "    for place in ('torch.nn.modules.x', 'own'):\n"
        "        warnings.warn_explicit(place, UserWarning, 'f.py', 1, module=place)\n"
        "    return torch.nn.Linear(4, 2)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "noisy_factory", raising=False)
    assert torch
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer("profile", "noisy_factory:make", "--input-shape", "4")
    assert [str(each.message) for each in caught] == ["own"]
