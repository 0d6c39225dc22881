"""Output files are there as a whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from mecsim.errors import OutputError
from mecsim.files import remove_unfinished, replacing, write_whole


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    with replacing(path) as (partial,):
        partial.write_text("half", encoding="utf-8")
        assert not path.exists()
    assert [each.name for each in path.parent.iterdir()] == ["out.txt"]


def test_several_files_take_their_names_together_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    write_whole(paths[0], "old")
    with suppress(KeyboardInterrupt), replacing(*paths) as partial:
        partial[0].write_text("new", encoding="utf-8")
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert paths[0].read_text(encoding="utf-8") == "old"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match=r"out: cannot be written: Is a directory"):
        write_whole(tmp_path / "out", b"data")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left, other = tmp_path / ".a[1].123.part", tmp_path / ".b.123.part"
    for each in (left, other):
        each.touch()
    remove_unfinished(tmp_path / "a[1]")
    assert (left.exists(), other.exists()) == (False, True)
