"""A disk that takes no more: one line, exit code 2, and what was written before is whole."""

from __future__ import annotations

import ctypes
import errno
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

from mecsim.cli import main
from mecsim.trace import superblock

SCENARIO = Path(__file__).parents[2] / "scenarios" / "vgg16_loaded.yaml"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 60, 100, 139, 145, 151, 180, 247])
def test_a_write_that_fails_is_told(
    allowed: int,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, writes = superblock._pwrite, 0

    def pwrite(*arguments: Any) -> int:
        nonlocal writes
        writes += 1
        if writes <= allowed:
            return int(real(*arguments))
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(superblock, "_pwrite", pwrite)
    out = tmp_path / "trace.h5"
    command = ["mecsim", "run", str(SCENARIO), "--scheduler", "greedy", "--set", "slots=20"]
    monkeypatch.setattr(sys, "argv", [*command, "--quiet", "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert writes > allowed
    assert ended.value.code == 2
    reported = capsys.readouterr().err
    assert "cannot be written" in reported
    assert "Traceback" not in reported
    assert not out.exists()
    for partial in tmp_path.iterdir():
        with h5py.File(partial) as file:
            assert not file.attrs["complete"]
