"""The controller's side of a host."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mecsim.errors import NodeFailedError
from mecsim.testbed.host_process import HostProcess


class Pressed:
    """Answers of a host; somebody presses Ctrl-C just before one comes."""

    def get(self, timeout: float) -> tuple[str, Any]:
        signal.raise_signal(signal.SIGINT)
        return "forked", {}


def test_ctrl_c_just_before_an_answer_is_not_lost() -> None:
    host: Any = object.__new__(HostProcess)
    host._answers = Pressed()
    with pytest.raises(KeyboardInterrupt):
        host._answer(1.0)


def test_a_host_that_was_killed_is_reported_with_its_signal() -> None:
    host = HostProcess()
    try:
        host._process.kill()
        killed = "host process was killed by SIGKILL, perhaps for lack of memory"
        assert host.reason("es1") == f"its {killed}"
        with pytest.raises(NodeFailedError, match=f"^the {killed}"):
            host._answer(60.0)
    finally:
        host.close()
