"""Which cases of a parametrised test run for each commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_unless(quick: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Return the cases for `pytest.mark.parametrize`; those that are not ``quick`` are slow tests.

    A case of several parameters is a tuple. Every quick case must be one of the cases.
    """
    listed = list(cases)
    assert [case for case in quick if case not in listed] == []
    return [case if case in quick else _slow(case) for case in listed]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
