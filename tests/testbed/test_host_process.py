"""The controller's side of a host."""

from __future__ import annotations

import signal
from typing import Any

import pytest

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
