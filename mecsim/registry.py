"""Schedulers by name: installed (entry points), ``package.module:Class``, ``file.py:Class``."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import ConfigDict, ValidationError, create_model

from mecsim.errors import SchedulerError
from mecsim.scheduler import Scheduler, SchedulerSpec

GROUP: Final = "mecsim.schedulers"


@dataclass(frozen=True)
class Description:
    """What ``mecsim schedulers`` tells of a scheduler."""

    name: str
    summary: str
    options: dict[str, str]
    """Name of each option to its type and default, as written in the source."""


def names() -> list[str]:
    """Return the names of the installed schedulers; imports none of them."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load(name: str) -> type[Scheduler]:
    """Return the class of a scheduler. Raises ``SchedulerError``."""
    target = _entry_point(name).value if ":" not in name else name
    place, _, attribute = target.partition(":")
    module = _module(place, name)
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Scheduler)):
        classes = [n for n, c in vars(module).items() if _is_scheduler(c)]
        raise SchedulerError(
            f"scheduler {name!r}: {place} has no mecsim.Scheduler called {attribute!r}; "
            f"it has: {', '.join(classes) or 'none'}"
        )
    return found


def _is_scheduler(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Scheduler) and value is not Scheduler


def _entry_point(name: str) -> EntryPoint:
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise SchedulerError(
        f"scheduler {name!r}: is not installed; {hint}allowed: {', '.join(names())}, "
        "package.module:Class or path/file.py:Class"
    )


def _module(place: str, name: str) -> ModuleType:
    try:
        return (
            _file_module(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
    except SchedulerError:
        raise
    except Exception as error:  # whatever a user's module raises, told as bad input
        cause = f"{type(error).__name__}: {error}"
        raise SchedulerError(f"scheduler {name!r}: {place} cannot be imported: {cause}") from error


def _file_module(path: Path) -> ModuleType:
    if not path.is_file():
        raise SchedulerError(f"scheduler: there is no file {path}")
    name = f"mecsim_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SchedulerError(f"scheduler: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the module's classes look there
    spec.loader.exec_module(module)
    return module


def create(name: str, spec: SchedulerSpec, options: Mapping[str, Any]) -> Scheduler:
    """Make a scheduler with its options checked against its signature. Raises ``SchedulerError``."""
    cls = load(name)
    checked = check_options(name, cls, options)
    try:
        return cls(spec, **checked)
    except SchedulerError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise SchedulerError(f"scheduler {name!r}: cannot be made: {cause}") from error


def check_options(name: str, cls: type[Scheduler], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the types that the scheduler's ``__init__`` says."""
    parameters = list(inspect.signature(cls, eval_str=True).parameters.values())[1:]
    known = {p.name: p for p in parameters if p.kind is not p.VAR_KEYWORD}
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            allowed = ", ".join(known) or "none"
            raise SchedulerError(
                f"scheduler {name!r}: has no option {key!r}; {hint}allowed: {allowed}"
            )
    fields: dict[str, Any] = {key: (_annotation(p), _default(p)) for key, p in known.items()}
    model = create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)
    try:
        values = model(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        problem = (
            first["msg"].replace("Input should", "should").replace("Field required", "is needed")
        )
        shown = "" if first["type"] == "missing" else f"{first['input']!r} "
        raise SchedulerError(f"scheduler {name!r}: option {key}: {shown}{problem}") from error
    return {key: getattr(values, key) for key in known}


def _annotation(parameter: inspect.Parameter) -> Any:
    return Any if parameter.annotation is parameter.empty else parameter.annotation


def _default(parameter: inspect.Parameter) -> Any:
    return ... if parameter.default is parameter.empty else parameter.default


def describe(name: str) -> Description:
    """Describe an installed scheduler from its source, without importing it."""
    module, _, attribute = _entry_point(name).value.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        tree = ast.parse(source)
    except (ImportError, OSError, ValueError, SyntaxError) as error:
        return Description(name, f"broken: {type(error).__name__}: {error}", {})
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == attribute:
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            return Description(name, summary, _options(node))
    return Description(name, f"broken: {module} has no class {attribute}", {})


def _options(node: ast.ClassDef) -> dict[str, str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            positional, named = item.args.args[2:], item.args.kwonlyargs
            missing = len(positional) - len(item.args.defaults)
            defaults = [None] * missing + list(item.args.defaults) + item.args.kw_defaults
            pairs = zip([*positional, *named], defaults, strict=False)
            return {argument.arg: _signature(argument, default) for argument, default in pairs}
    return {}


def _signature(argument: ast.arg, default: ast.expr | None) -> str:
    kind = ast.unparse(argument.annotation) if argument.annotation else "any"
    return kind if default is None else f"{kind} = {ast.unparse(default)}"
