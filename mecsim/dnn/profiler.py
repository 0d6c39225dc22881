"""Converts PyTorch modules to the layer graphs of `mecsim.dnn.graph`.

A module is traced (`torch.fx`, or `torch.export` where its Python code depends on shapes). Its
graph is run once on tensors that have a shape but no content, so that even a large network takes
little memory and time. FLOPs are those of `torch.utils.flop_counter`, with the products that it
omits (see `_FORMULAS`). A multiply-add is two FLOPs. Products of matrices and vectors, convolutions
and attention count; element-wise operations, sums, poolings and normalisations count 0.
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from pydantic import ValidationError
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.dnn.operations import Meter, layers_of
from mecsim.dnn.timing import Timing, measure
from mecsim.dnn.tracing import trace
from mecsim.errors import ProfileError
from mecsim.support.text import error_line
from mecsim.support.validation import first_fault

_CACHES: Final = "TORCHINDUCTOR_CACHE_DIR"
_Shape: TypeAlias = Sequence[int]


def _matrix_vector(matrix: _Shape, _vector: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _added_matrix_vector(_added: _Shape, matrix: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _vectors(one: _Shape, _other: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(one)


def _added_batch(_added: _Shape, one: _Shape, other: _Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(one) * other[-1]


def _time_convolution(_x: _Shape, weight: _Shape, *_: Any, out_shape: _Shape, **__: Any) -> int:
    return 2 * math.prod(out_shape) * weight[0] * weight[1]


def _bilinear(one: _Shape, weight: _Shape, other: _Shape, *_: Any, **__: Any) -> int:
    """Return the FLOPs of x A y, shapes (n, i), (o, i, j), (n, j): first x A, then the rest."""
    outputs, inputs, columns = weight
    return 2 * (math.prod(one) // inputs) * outputs * columns * (inputs + 1)


_ATEN = torch.ops.aten
_FORMULAS: dict[Any, Callable[..., int]] = {
    _ATEN.mv: _matrix_vector,
    _ATEN.addmv: _added_matrix_vector,
    _ATEN.dot: _vectors,
    _ATEN.vdot: _vectors,
    _ATEN.addbmm: _added_batch,
    _ATEN.conv_tbc: _time_convolution,
    _ATEN._trilinear: _bilinear,  # only `torch.nn.functional.bilinear` calls it
}
"""FLOPs of the products that PyTorch's counter omits, by the shapes of their arguments."""


def _flop_counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=_FORMULAS)


INPUT_TYPES: Final = ("float32", "float16", "bfloat16", "int64", "int32", "uint8")
"""What the numbers of an input may be: tokens of language models are int64."""


def profile_module(
    module: nn.Module,
    input_shape: tuple[int, ...],
    name: str,
    *,
    input_type: str | None = None,
    input_bits: int | None = None,
    stages: tuple[str, ...] = (),
    timing: Timing | None = None,
) -> LayerGraph:
    """Count the cost of each layer of a module for one input, in inference mode.

    A layer is an operation together with the operations fused into it. An operation without FLOPs
    is fused if it is the only reader of the output and keeps the number of elements (activation,
    normalisation, dropout, reshape) or only selects or pads. Poolings, and operations that merge
    several tensors or read the raw input, are separate layers. The module is not changed.

    If several layers emit the results, a last layer ``output`` without cost joins them.
    ``nn.TransformerEncoder`` is opened: each of its layers is a layer.

    Parameters that several layers use are listed in `Layer.shared` of each, so that every block
    that uses them counts them.

    Args:
        module: Any module whose ``forward`` takes one tensor.
        input_shape: Shape of one raw input, without the batch dimension.
        name: The name of the model.
        input_type: One of `INPUT_TYPES`; by default that of the parameters. Integers are zeros.
        input_bits: Size of one raw input, bits; by default that of the tensor of ``input_type``,
            without one that of a float32 tensor.
        stages: The layers after which `mecsim.dnn.cuts.cut_stages` cuts.
        timing: How to measure the time of each layer on this machine, if it is to be measured.

    Raises:
        ProfileError: If the module cannot be traced or run on that shape, does not have one input,
            returns no tensor, or a stage is no legal cut.
    """
    shape = tuple(input_shape)
    kind = None if input_type is None else getattr(torch, input_type)
    bits = math.prod(shape) * (32 if kind is None else 8 * kind.itemsize)
    try:
        layers, owners = count_layers(module, shape, kind)
        measured = {}
        if timing is not None:
            names = [layer.name for layer in layers]
            measured = {timing.node: measure(module, shape, kind, names, owners, timing)}
    except ProfileError as error:
        raise ProfileError(f"model {name!r} {error}") from error.__cause__
    except ValidationError as error:
        raise ProfileError(f"model {name!r}: a layer's {first_fault(error)}") from error
    try:
        return LayerGraph(
            name=name,
            input_shape=shape,
            input_bits=bits if input_bits is None else input_bits,
            layers=layers,
            stages=stages,
            measured=measured,
        )
    except ValidationError as error:
        raise ProfileError(f"model {name!r}: {first_fault(error)}") from error


def count_layers(
    module: nn.Module, input_shape: tuple[int, ...], kind: torch.dtype | None
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Trace a module and run it on a tensor without content.

    Args:
        module: The module. It is not changed.
        input_shape: Shape of one raw input, without the batch dimension.
        kind: Type of the numbers of the input; by default that of the parameters.

    Returns:
        The layers, and the name of the layer of each operation by the name of the operation.

    Raises:
        ProfileError: See :func:`profile_module`; the message does not name the module.
    """
    mode = _fake_tensors()
    fake = _without_content(module, mode)
    like = next(fake.parameters(), torch.zeros(()))
    with mode, torch.no_grad(), _every_flop_counted():
        x = torch.zeros((1, *input_shape), dtype=kind or like.dtype, device=like.device)
        traced = trace(fake, x)
        try:
            with _flop_counter() as counter:
                meter = Meter(traced, counter.get_total_flops)
                meter.run(x)
            total = _whole_flops(fake, x, counter.get_total_flops())
        except Exception as error:  # running a module runs the user's code
            shape = tuple(x.shape)
            raise ProfileError(
                f"fails on an input of shape {shape}: {error_line(error)}"
            ) from error
    layers, owners = layers_of(meter.steps)
    if (found := sum(layer.flops for layer in layers)) != total:
        raise ProfileError(
            f"has {found} FLOPs between its input and its result, but {total} in all; "
            "remove what is computed and not used"
        )
    return layers, owners


def _fake_tensors() -> FakeTensorMode:
    """Return a mode for tensors without content.

    The first one makes an empty folder for caches, which PyTorch makes again when it needs it.
    """
    given = _CACHES in os.environ
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    if not given and (folder := os.environ.get(_CACHES)):
        with suppress(OSError):  # it has files
            Path(folder).rmdir()
    return mode


def _whole_flops(module: nn.Module, x: torch.Tensor, traced: int) -> int:
    """Return the FLOPs of a module, of which the traced graph may leave out what is not used.

    An encoder looks into its mask, which has no content here; then it is those of the graph.
    """
    with _flop_counter() as counter:
        try:
            module(x)
        except DataDependentOutputException:
            return traced
    return counter.get_total_flops()


def _without_content(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a copy for inference whose parameters and buffers have a shape but no content."""
    try:
        tensors = [*module.parameters(), *module.buffers()]
        memo: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
        return copy.deepcopy(module, memo).eval()
    except Exception as error:  # copying runs the user's code
        raise ProfileError(f"cannot be copied: {error_line(error)}") from error


@contextmanager
def _every_flop_counted() -> Iterator[None]:
    """Disable the fused kernels of attention and LSTMs, which PyTorch's counter does not count."""
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            # Restoring the flags warns of a missing Intel GPU.
            warnings.filterwarnings("ignore", "TF32 acceleration", UserWarning)
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
