"""Traces PyTorch modules to graphs of operations."""

from __future__ import annotations

import inspect
import io
from contextlib import redirect_stderr
from typing import Any

import torch
from torch import fx, nn

from mecsim.errors import ProfileError
from mecsim.support.text import error_line


def trace(module: nn.Module, x: torch.Tensor) -> fx.GraphModule:
    """Return the operations of a module as a graph.

    Args:
        module: A module with one input.
        x: An input of it.

    Raises:
        ProfileError: If the module does not have one input, or cannot be traced.
    """
    defaults = _defaults(module)
    root = _Opened(module) if isinstance(module, nn.TransformerEncoder) else module
    try:
        return fx.GraphModule(root, _Tracer().trace(root, defaults))
    except Exception as error:  # noqa: BLE001 - tracing runs the user's code
        by_fx = error_line(error)
    try:
        with redirect_stderr(io.StringIO()):  # where torch.export prints graphs that it gives up
            return torch.export.export(module, (x,)).module()
    except Exception as error:  # the same
        raise ProfileError(
            f"cannot be traced, neither by torch.fx ({by_fx}) nor by torch.export "
            f"({error_line(error)}); its forward() must not depend on the values in tensors"
        ) from error


class _Tracer(fx.Tracer):
    """Looks into ``nn.TransformerEncoder``, whose layers are those of the graph."""

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if isinstance(m, nn.TransformerEncoder):
            return _open(m, *args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _open(
    encoder: nn.TransformerEncoder | _Opened,
    src: Any,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: bool | None = None,
) -> Any:
    """Call the layers of an encoder in turn: its own forward() depends on values in tensors."""
    masks = {
        "src_mask": mask,
        "src_key_padding_mask": src_key_padding_mask,
        "is_causal": bool(is_causal),
    }
    for layer in encoder.layers:
        src = layer(src, **masks)
    return src if encoder.norm is None else encoder.norm(src)


class _Opened(nn.Module):
    """An encoder that is the whole module."""

    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self.layers, self.norm = encoder.layers, encoder.norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: Any = None
    ) -> Any:
        return _open(self, src, mask, src_key_padding_mask, is_causal)


def _defaults(module: nn.Module) -> dict[str, Any]:
    """Return the arguments of ``forward`` that have defaults; raise unless one has none."""
    arguments = inspect.signature(module.forward).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not a.empty}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    inputs = [a.name for a in arguments if a.name not in defaults and a.kind not in variadic]
    if len(inputs) != 1:
        raise ProfileError(f"has {len(inputs)} inputs ({', '.join(inputs)}), must have one")
    return defaults
