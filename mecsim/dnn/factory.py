"""Makes a PyTorch module from ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mecsim.errors import ProfileError
from mecsim.support.text import error_line
from mecsim.support.user_file import import_file


def load_factory(spec: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Import a factory, call it, and return its module.

    This runs the code of the module or the file that the user names.

    Args:
        spec: ``package.module:factory`` or ``path/file.py:factory``.
        arguments: The keyword arguments of the factory.

    Raises:
        ProfileError: If it cannot be imported, raises, or does not return a module.
    """
    place, _, attribute = spec.rpartition(":")
    if not place or not attribute:
        raise ProfileError(
            f"{spec!r} names no factory; write package.module:factory or file.py:factory"
        )
    if place.endswith(".py") and not Path(place).is_file():
        raise ProfileError(f"{spec!r}: there is no file {place}")
    try:
        module = (
            import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
        factory = getattr(module, attribute)
    except AttributeError as error:
        raise ProfileError(f"{spec!r}: {error_line(error)}") from error
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise ProfileError(f"{spec!r}: importing {place!r} fails: {error_line(error)}") from error
    if not callable(factory):
        raise ProfileError(f"{spec!r} is a {type(factory).__name__}, not something to call")
    return _called(spec, factory, dict(arguments or {}))


def _called(spec: str, factory: Callable[..., object], arguments: dict[str, Any]) -> nn.Module:
    try:
        module = factory(**arguments)
    except (Exception, SystemExit) as error:  # the factory is the user's code
        how = f"with {_listed(arguments)}" if arguments else "without arguments"
        raise ProfileError(f"{spec!r}: calling it {how} fails: {error_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ProfileError(f"{spec!r} returns a {type(module).__name__}, not a torch.nn.Module")
    return module


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
