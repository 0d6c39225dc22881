"""Import a user's Python file (a scheduler, a DNN), which may import the files of its folder.

A file and its siblings are read afresh at each load, never from a cache: two folders may have
siblings of the same name, and a long-lived process must not compute with an earlier source.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    SOURCE_SUFFIXES,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

SHIPPED: Final = ("mecsim", "schedulers")
"""Top-level modules that come with mecsim."""


def import_file(path: Path) -> ModuleType:
    """Execute a Python file as a module. Raises what the file raises.

    Args:
        path: A file with the suffix ``.py``.
    """
    name = f"mecsim_user_{path.stem}"
    _SIBLINGS.look_in(path.parent)
    spec = spec_from_file_location(name, path, loader=_UncachedLoader(name, str(path.absolute())))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the module look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _UncachedLoader(SourceFileLoader):
    """Compiles the source each time: caches distinguish files by whole seconds only."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the source as it is now."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _SiblingFinder(MetaPathFinder):
    """Finds modules next to the file that was loaded last, as Python does for a script.

    The standard library and mecsim come first: a file called ``queue.py`` harms neither.
    """

    def __init__(self) -> None:
        self._folder = ""
        self._found: set[str] = set()

    def look_in(self, folder: Path) -> None:
        """Forget the siblings of the last file, and look for those of another one."""
        for name in [each for each in sys.modules if each.partition(".")[0] in self._found]:
            del sys.modules[name]
        self._found.clear()
        self._folder = str(folder.absolute())
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of a sibling or of its submodule, None for all other modules."""
        top = fullname.partition(".")[0]
        if path is None:
            if top in sys.stdlib_module_names or top in SHIPPED:
                return None
            path = [self._folder]
        elif top not in self._found:
            return None
        for folder in path:
            spec = FileFinder(folder, (_UncachedLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is None or (spec.loader is None and PathFinder.find_spec(fullname) is not None):
                continue  # a folder without __init__.py gives way to an installed package
            self._found.add(top)
            return spec
        return None


_SIBLINGS: Final = _SiblingFinder()
