"""What a scheduler is computed from: its source files and the versions of what they import.

Sources are read, not executed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Final

from mecsim.scheduler import registry
from mecsim.scheduler.errors import is_installed
from mecsim.support.user_file import SHIPPED

_ALWAYS: Final = ("mecsim", "numba", "numpy")


@dataclass(frozen=True)
class Sources:
    """The sources of a scheduler."""

    files: tuple[str, ...] = ()
    """Its file, and the files that it imports and that no installed package has, transitively; none
    for a scheduler that comes with mecsim."""
    packages: frozenset[str] = frozenset()
    """Top-level modules of installed packages that these files import."""

    def versions(self, *more: str) -> dict[str, str]:
        """Return the versions of what computes, by names of distributions.

        Args:
            *more: Further distributions; those that are not installed are left out.
        """
        of_modules = _distributions() if self.packages else {}
        names = {name for module in self.packages for name in of_modules.get(module, ())}
        found = {}
        for name in sorted({*_ALWAYS, *more, *names}):
            with suppress(PackageNotFoundError):
                found[name] = version(name)
        return found


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def sources(name: str) -> Sources:
    """Find the sources of a scheduler.

    Imports are found where they are written out: ``import``, also inside a function, and
    ``import_module`` with a literal name.

    Args:
        name: As for :func:`mecsim.scheduler.registry.load`. The path in ``path/file.py:Class`` is
            returned as it is.

    Raises:
        SchedulerError: A module cannot be loaded.
    """
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return file_sources(Path(place))
    paths = _user_paths()
    module = sys.modules[registry.load(name).__module__]
    parts = module.__name__.split(".")
    if not module.__file__:
        return Sources()
    file = Path(module.__file__)
    if parts[0] in SHIPPED:
        search = _Search([])
        search.read(file, ())
        return Sources((), search.found().packages)
    is_package = file.name == "__init__.py"
    top = file.parents[len(parts) - (0 if is_package else 1)]
    search = _Search([top], only=parts[0]) if is_installed(file) else _Search([top, *paths])
    search.follow(parts)
    return search.found()


def file_sources(file: Path) -> Sources:
    """Find the sources of a Python file: the file as it is given, and what it imports."""
    search = _Search([file.parent, *_user_paths()])
    search.read(file, ())
    return search.found()


def _user_paths() -> list[Path]:
    return [Path(each) for each in sys.path if not is_installed(Path(each).absolute())]


@dataclass
class _Search:
    """Follows imports through the files below some folders."""

    roots: Sequence[Path]
    only: str = ""
    """The only top-level module that is followed, if given."""
    files: dict[str, None] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)

    def found(self) -> Sources:
        return Sources(tuple(self.files), frozenset(self.packages))

    def read(self, file: Path, package: Sequence[str]) -> None:
        """Add a file of a package, and what it imports."""
        if str(file) in self.files or not file.is_file():
            return
        self.files[str(file)] = None
        with suppress(OSError):  # whoever reads the file for its content reports it
            for level, name in _imports(file.read_bytes()):
                above = package[: len(package) - level + 1] if level else ()
                self.follow([*above, *(name.split(".") if name else ())])

    def follow(self, parts: Sequence[str]) -> None:
        """Add the files of a module and of the packages above it."""
        if not parts or parts[0] in sys.stdlib_module_names or parts[0] in SHIPPED:
            return
        for root in self.roots if self.only in ("", parts[0]) else ():
            files = dict(_files(root, parts))
            for file, package in files.items():
                self.read(file, package)
            if files:
                return
        self.packages.add(parts[0])


def _files(root: Path, parts: Sequence[str]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield the file and the package of a module and of each package above it, where they exist."""
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        if (place / "__init__.py").is_file():
            yield place / "__init__.py", tuple(parts[:depth])
        elif (file := place.with_name(f"{place.name}.py")).is_file():
            yield file, tuple(parts[: depth - 1])


@lru_cache(maxsize=256)
def _imports(source: bytes) -> tuple[tuple[int, str], ...]:
    """Return the imports of a source: the number of leading dots, and the name."""
    found: dict[tuple[int, str], None] = {}
    with suppress(SyntaxError, ValueError, RecursionError):  # loading the file reports these
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {(0, each.name): None for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = f"{node.module}." if node.module else ""
                found |= {(node.level, above + each.name): None for each in node.names}
            elif isinstance(node, ast.Call) and node.args:
                function, name = ast.unparse(node.func), node.args[0]
                literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
                if literal and function.endswith(("import_module", "__import__")):
                    found[0, ast.literal_eval(name)] = None
    return tuple(found)
