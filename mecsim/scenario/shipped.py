"""The scenarios that come with mecsim, by name."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from mecsim.errors import ScenarioError
from mecsim.support.files import packaged
from mecsim.support.text import did_you_mean


def names() -> tuple[str, ...]:
    """Return the names of the shipped scenarios, sorted: ``bench/loaded`` in the folder ``bench``.

    Example:
        >>> "vgg16_4es" in names()
        True
    """
    return tuple(sorted(_files()))


@cache
def _files() -> dict[str, Path]:
    folder = packaged("scenarios")
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")
    }


def path(name: str) -> Path:
    """Return the file of a shipped scenario. Raises ``ScenarioError`` for an unknown name."""
    if name not in _files():
        raise ScenarioError(f"scenario {name!r}: is not known; {expected(name)}")
    return _files()[name]


def find(source: str | os.PathLike[str]) -> Path:
    """Return the path of a scenario.

    Args:
        source: The path of a file, or the name of a shipped scenario. A file comes first.

    Raises:
        ScenarioError: If there is neither.
    """
    named = os.fspath(source)
    if not os.path.isfile(named) and named in _files():  # noqa: PTH113 - Path raises for long names
        return _files()[named]
    found = Path(named)
    try:
        found.stat()
    except FileNotFoundError as error:
        raise ScenarioError(
            f"{found}: cannot be read: {error.strerror}; {expected(found.stem)}"
        ) from error
    except (OSError, ValueError):
        pass  # reading it gives the reason
    return found


def expected(name: str) -> str:
    """Return what is allowed where a scenario is named, with a suggestion for ``name``."""
    listed = ", ".join(names())
    suggestion = did_you_mean(name, names())
    return f"{suggestion}allowed: the path of a YAML file, or a shipped scenario: {listed}"
