"""Schedulers by name: installed (entry points), ``package.module:Class``, ``file.py:Class``.

``NAME:FILE`` stands for an installed scheduler with its option ``policy=FILE``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from mecsim.errors import SchedulerError
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.errors import scheduler_errors
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.support.text import did_you_mean
from mecsim.support.user_file import import_file
from mecsim.support.validation import first_fault

GROUP: Final = "mecsim.schedulers"
NO_ROLLOUTS: Final = (
    "retries: what_if does not place lost tasks again; allowed: 0. "
    "Try: a scheduler without rollouts"
)


@dataclass(frozen=True)
class Description:
    """A scheduler as ``mecsim schedulers`` lists it."""

    name: str
    """Name under which it is installed."""
    summary: str
    """First line of its docstring, or ``broken: …``."""
    options: dict[str, str]
    """Type and default of each option, as written in the source."""


def names() -> list[str]:
    """Return the names of the installed schedulers. Imports none of them.

    Example:
        >>> {"greedy", "local", "mtl-a3c"} <= set(names())
        True
    """
    return sorted({point.name for point in _installed(tuple(sys.path))})


@cache
def _installed(path: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=GROUP)


def load(name: str) -> type[Scheduler]:
    """Import the class of a scheduler.

    Args:
        name: An installed name, ``package.module:Class`` or ``path/file.py:Class``.

    Returns:
        The class, a subclass of :class:`mecsim.Scheduler`.

    Raises:
        SchedulerError: If there is no such scheduler, or its module cannot be imported.

    Example:
        >>> load("greedy")
        <class 'schedulers.greedy.Greedy'>
        >>> load("greedi")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        mecsim.errors.SchedulerError: scheduler 'greedi': is not installed; did you mean ...
    """
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
    for point in _installed(tuple(sys.path)):
        if point.name == name:
            return point
    if name.endswith(".py"):
        raise SchedulerError(
            f"scheduler {name!r}: names no class. Expected: path/file.py:Class. Try: {name}:NAME "
            "with the name of a class in it"
        )
    raise SchedulerError(
        f"scheduler {name!r}: is not installed; {did_you_mean(name, names())}allowed: "
        f"{', '.join(names())}, NAME:FILE with a policy, package.module:Class or "
        "path/file.py:Class"
    )


def _module(place: str, name: str) -> ModuleType:
    with scheduler_errors(f"scheduler {name!r}: {place} cannot be imported:"):
        if place.endswith(".py"):
            return _file_module(Path(place), name)
        return importlib.import_module(place)


def _file_module(path: Path, scheduler: str) -> ModuleType:
    if not path.is_file():
        raise SchedulerError(f"scheduler {scheduler!r}: there is no file {path}")
    return import_file(path)


def split_policy(name: str, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Split ``NAME:FILE`` into an installed scheduler and its option ``policy``.

    Args:
        name: ``NAME:FILE``, or as for :func:`load`. A class of a module that has the name of an
            installed scheduler without a policy stays a class.
        options: Other options of the scheduler.

    Returns:
        A name for :func:`load`, and all options.

    Raises:
        SchedulerError: The scheduler has no policies or cannot be loaded, there is no such file, or
            ``options`` name another one.

    Example:
        >>> split_policy("greedy", {"places": "all"})
        ('greedy', {'places': 'all'})
        >>> split_policy("mtl-a3c:README.md")
        ('mtl-a3c', {'policy': 'README.md'})
    """
    given = dict(options or {})
    installed, colon, file = name.partition(":")
    if not colon or installed not in names():
        return name, given
    if "policy" not in _parameters(installed, load(installed)):
        if file.isidentifier():
            return name, given
        raise SchedulerError(f"scheduler {name!r}: {installed} takes no policy. Try: {installed}")
    if "policy" in given:
        raise SchedulerError(f"scheduler {name!r}: names a policy, and so does option policy")
    if not Path(file).is_file():
        raise SchedulerError(f"scheduler {name!r}: there is no file {file}")
    return installed, given | {"policy": file}


def check(name: str, options: Mapping[str, Any]) -> None:
    """Check that a scheduler can be loaded and has the options; its ``__init__`` is not called.

    Args:
        name: As for :func:`split_policy`.
        options: As for :func:`create`.

    Raises:
        SchedulerError: It cannot be loaded, or an option is unknown, missing or invalid.
    """
    own, every = split_policy(name, options)
    check_options(own, load(own), every)


def create(name: str, spec: SchedulerSpec, options: Mapping[str, Any]) -> Scheduler:
    """Make a scheduler.

    Args:
        name: As for :func:`split_policy`.
        spec: The static description of the run.
        options: The keyword arguments of its ``__init__``; checked against its annotations.

    Raises:
        SchedulerError: If it cannot be loaded or made, or an option is unknown or invalid.
    """
    own, every = split_policy(name, options)
    return make(own, load(own), spec, every)


def make(
    name: str, cls: type[Scheduler], spec: SchedulerSpec, options: Mapping[str, Any]
) -> Scheduler:
    """Make a scheduler of a class; ``name`` is for messages. Otherwise as :func:`create`."""
    checked = check_options(name, cls, options)
    check_fits(name, cls, spec)
    with scheduler_errors(f"scheduler {name!r}: cannot be made:", module=cls.__module__):
        return cls(spec, **checked)


def decision_epochs(name: str, cls: type[Scheduler]) -> tuple[str, ...]:
    """Return the kinds of decision epochs that a scheduler is for.

    Raises:
        SchedulerError: The class names unknown ones.
    """
    found: object = cls.decision_epochs
    known = Scheduler.decision_epochs
    if not isinstance(found, tuple) or not found or not set(found) <= set(known):
        raise SchedulerError(
            f"scheduler {name!r}: decision_epochs is {found!r}; allowed: a tuple of {known}"
        )
    return found


def check_fits(name: str, cls: type[Scheduler], spec: SchedulerSpec) -> None:
    """Raise ``SchedulerError`` if a scheduler is not for a scenario's epochs, classes, retries."""
    known, epoch = decision_epochs(name, cls), spec.decision_epoch
    if len(spec.classes) > 1 and not cls.several_classes:
        names = ", ".join(each.class_name for each in spec.classes)
        raise SchedulerError(
            f"scheduler {name!r}: decides for one class of tasks, and the scenario has "
            f"{len(spec.classes)} ({names}). Try: another scheduler"
        )
    if epoch not in known:
        raise SchedulerError(
            f"scheduler {name!r}: decides {known[0]} only, and decision_epoch is {epoch}. "
            f"Try: decision_epoch: {known[0]} in the scenario, or another scheduler"
        )
    if cls.uses_rollouts and spec.retries:
        raise SchedulerError(f"scheduler {name!r}: {NO_ROLLOUTS}")


def check_options(name: str, cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert options to the types that a class declares.

    Args:
        name: Name of the scheduler, for messages.
        cls: A class; its options are the parameters of ``__init__`` after the first one, or the
            fields of a pydantic model.
        options: Values by name; texts are converted.

    Raises:
        SchedulerError: If an option is unknown, missing or invalid.
    """
    known = _parameters(name, cls)
    for key in options:
        if key not in known:
            allowed = f"{did_you_mean(key, known)}allowed: {', '.join(known) or 'none'}"
            raise SchedulerError(f"scheduler {name!r}: has no option {key!r}; {allowed}")
    for key, parameter in known.items():
        if key not in options and parameter.default is parameter.empty:
            remedy = f"{name}:FILE" if key == "policy" else f"--option {key}=VALUE"
            raise SchedulerError(f"scheduler {name!r}: option {key}: is needed. Try: {remedy}")
    return {key: _checked(name, known[key], value) for key, value in options.items()}


def default_options(name: str, cls: type) -> dict[str, Any]:
    """Return the defaults of a class's options as plain data; others by the name of their type.

    Raises:
        SchedulerError: The types of its options cannot be read.
    """
    found = {key: each.default for key, each in _parameters(name, cls).items()}
    defaults = {key: value for key, value in found.items() if value is not inspect.Parameter.empty}
    plain: dict[str, Any] = to_jsonable_python(
        defaults, fallback=lambda value: type(value).__qualname__, inf_nan_mode="strings"
    )
    return plain


def _parameters(name: str, cls: type) -> dict[str, inspect.Parameter]:
    """Return the named parameters of ``__init__`` after the first, or the fields of a model."""
    with scheduler_errors(f"scheduler {name!r}: has options whose types cannot be read:"):
        if issubclass(cls, BaseModel):
            return dict(inspect.signature(cls).parameters)
        parameters = list(inspect.signature(cls, eval_str=True).parameters.values())[1:]
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p for p in parameters if p.kind not in unnamed}


def _checked(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    if parameter.annotation is parameter.empty:
        return value
    try:
        with scheduler_errors(f"scheduler {name!r}: option {parameter.name}:", let=ValidationError):
            return _adapter(parameter.annotation).validate_python(value)
    except ValidationError as error:
        fault = first_fault(error, parameter.name, declared=parameter.annotation)
        raise SchedulerError(f"scheduler {name!r}: option {fault}") from error


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a pydantic model with its own configuration
        return TypeAdapter(annotation)


def describe(name: str) -> Description:
    """Describe an installed scheduler from its source, without importing it.

    Args:
        name: An installed name.

    Returns:
        The description. The summary of a scheduler that cannot be read begins with ``broken:``.

    Raises:
        SchedulerError: If the name is not installed.

    Example:
        >>> describe("lookahead").options
        {'budget': 'int = 300'}
    """
    module, _, attribute = _entry_point(name).value.partition(":")
    try:
        found = _definition(module, attribute)
    except Exception as error:  # noqa: BLE001 - a broken one harms no other
        return Description(name, f"broken: {type(error).__name__}: {error}", {})
    if found is None:
        return Description(name, f"broken: {module} has no class {attribute}", {})
    summary = (ast.get_docstring(found[1]) or "").partition("\n")[0]
    return Description(name, summary, _options(*found) or {})


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """Return the syntax tree of a class, and the module that defines it.

    Follows imports from other modules.
    """
    file = _source(module)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                if name == (each.asname or each.name):
                    place = importlib.util.resolve_name(
                        "." * node.level + (node.module or ""), package
                    )
                    return _definition(place, each.name)
    return None


def _source(module: str) -> Path:
    """Find a module's file; ``find_spec`` of a submodule would import the packages above it."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}")
    if not rest:
        return Path(spec.origin or "")
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                return file
    raise ModuleNotFoundError(f"No module named {module!r}")


def _options(module: str, node: ast.ClassDef) -> dict[str, str] | None:
    """Return the options of a class or of the first base class that has an ``__init__``.

    None if there is no ``__init__``. Base classes are found by their names in the module.
    """
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            positional, named = item.args.args[2:], item.args.kwonlyargs
            missing = len(positional) - len(item.args.defaults)
            defaults = [None] * missing + list(item.args.defaults) + item.args.kw_defaults
            pairs = zip([*positional, *named], defaults, strict=False)
            return {argument.arg: _signature(argument, default) for argument, default in pairs}
    for base in node.bases:
        with suppress(Exception):  # one that is not found has no options that we know of
            above = _definition(module, ast.unparse(base))
            options = None if above is None else _options(*above)
            if options is not None:
                return options
    return None


def _signature(argument: ast.arg, default: ast.expr | None) -> str:
    kind = ast.unparse(argument.annotation) if argument.annotation else "any"
    return kind if default is None else f"{kind} = {ast.unparse(default)}"
