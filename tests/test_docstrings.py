"""Public names have docstrings in Google's style.

The rule: every public class, function, method and property of the modules below has a docstring. A
function with two or more parameters documents each of them under ``Args:``, and its value in a
``Returns:`` section or a summary that begins with "Return". An ``Args:`` entry begins in upper case
and names a parameter.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PACKAGES = (
    "scenario",
    "model",
    "scheduler",
    "trace",
    "learning",
    "verification",
    "study",
    "env",
    "sb3",
)
MODULES = ("", *(f".{name}" for name in PACKAGES))


def public(name: str) -> Iterator[tuple[str, Any]]:
    """Yield the classes and functions that a module defines or exports."""
    module = importlib.import_module(name)
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == name]
    for key in getattr(module, "__all__", own):
        value = getattr(module, key)
        if not key.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            yield f"{name}.{key}", value


def members(name: str, kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield a class and the public methods that it defines; or a function."""
    yield name, kind
    for key, value in vars(kind).items() if inspect.isclass(kind) else ():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        own = getattr(function, "__module__", "").startswith("mecsim")
        if own and not key.startswith("_") and inspect.isfunction(function):
            yield f"{name}.{key}", value


def documented() -> dict[str, Any]:
    """Return all public names of mecsim once, by name."""
    pytest.importorskip("stable_baselines3")
    found = [pair for module in MODULES for pair in public(f"mecsim{module}")]
    kinds = {id(kind): (name, kind) for name, kind in reversed(found)}
    return {name: value for kind in kinds.values() for name, value in members(*kind)}


def faults(name: str, value: Any) -> Iterator[str]:
    text = inspect.getdoc(value) or ""
    if not text:
        yield f"{name}: has no docstring"
        return
    entries = arguments(text)
    yield from (
        f"{name}: {key}: begins in lower case" for key, rest in entries if rest[0].islower()
    )
    function = getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return
    known = parameters(function)
    if len(known) > 1:
        missing = known - {key for key, _ in entries}
        yield from (f"{name}: {key}: is not under Args" for key in sorted(missing))
    yield from (f"{name}: {key}: is no parameter" for key, _ in entries if key not in known)
    returned = function.__annotations__.get("return")
    given = re.match(r"Return |Yield ", text) or re.search(
        r"^(Returns|Yields):$", text, re.MULTILINE
    )
    if len(known) > 1 and returned not in ("None", None) and not given:
        yield f"{name}: does not document what it returns"


def parameters(function: Callable[..., Any]) -> set[str]:
    names = inspect.signature(function).parameters
    return {name for name in names if name not in ("self", "cls") and not name.startswith("_")}


def arguments(text: str) -> list[tuple[str, str]]:
    """Return names and descriptions under ``Args:``."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    return re.findall(r"^    \*{0,2}(\w+): (.+)$", section[1], re.MULTILINE) if section else []


def test_public_names_are_documented() -> None:
    found = documented()
    assert len(found) > 60
    assert not [fault for name, value in found.items() for fault in faults(name, value)]


def undocumented(first: int, second: int) -> int:
    """Add.

    Args:
        first: a number.
        third: A number.
    """
    return first + second


def test_the_check_can_fail() -> None:
    assert list(faults("add", undocumented)) == [
        "add: first: begins in lower case",
        "add: second: is not under Args",
        "add: third: is no parameter",
        "add: does not document what it returns",
    ]
