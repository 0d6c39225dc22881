"""Training needs an extra, whose modules it imports late."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="package")
def extra() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboardX")
