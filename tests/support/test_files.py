"""Output files are there as a whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mecsim.errors import OutputError
from mecsim.support.files import remove_unfinished, replacing, write_whole


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    with replacing(path) as (partial,):
        partial.write_text("half", encoding="utf-8")
        assert not path.exists()
    assert [each.name for each in path.parent.iterdir()] == ["out.txt"]


def test_several_files_take_their_names_only_if_all_are_complete(tmp_path: Path) -> None:
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
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    (tmp_path / "jobs").mkdir()
    left, other = tmp_path / "jobs" / f".a.{dead.pid}.part", tmp_path / f".a.{os.getpid()}.part"
    strange = tmp_path / ".a.part"
    for each in (left, other, strange):
        each.touch()
    remove_unfinished(tmp_path / "jobs")
    remove_unfinished(tmp_path)
    assert [each.exists() for each in (left, other, strange)] == [False, True, True]


def test_what_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text(encoding="utf-8") == "new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        write_whole(tmp_path / "pipe", "text")
        assert reader.communicate(timeout=10)[0] == b"text"
    assert (tmp_path / "pipe").is_fifo()
