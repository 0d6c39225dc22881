"""The blocks that the nodes of a machine compute, and their tensors as bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from mecsim.testbed import messages

Tensors = tuple[torch.Tensor, ...]


class TensorSpec(Protocol):
    """Type and shape of a tensor."""

    @property
    def dtype(self) -> str:
        """Name of the type, such as ``"float32"``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, with the batch dimension."""
        ...


class Block(Protocol):
    """A part of a network; computes the tensors that cross the cut behind it."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The tensors that it takes."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The tensors that it returns."""
        ...

    def __call__(self, tensors: Tensors) -> Tensors:
        """Compute; may write into its arguments."""
        ...


class Computation:
    """The blocks of all task classes."""

    def __init__(self, classes: Sequence[Sequence[Block]], raw_inputs: Sequence[Tensors]) -> None:
        """Take blocks that are ready to compute.

        Args:
            classes: The blocks of each class.
            raw_inputs: The raw input of each class.
        """
        self._classes = classes
        self._blocks = [block for blocks in classes for block in blocks]
        self._raw = raw_inputs

    def raw_input(self, task_class: int) -> Tensors:
        """Return the raw input of a task; a copy, because blocks may write into it."""
        return tuple(tensor.clone() for tensor in self._raw[task_class])

    def compute(self, block: int, tensors: Tensors) -> Tensors:
        """Compute a block.

        Args:
            block: Its row among the blocks of all classes.
            tensors: What it reads.
        """
        return self._blocks[block](tensors)

    def warm_up(self) -> None:
        """Compute every block once, in the thread that will compute."""
        for tensors, blocks in zip(self._raw, self._classes, strict=True):
            crossing = tuple(tensor.clone() for tensor in tensors)
            for block in blocks:
                crossing = block(crossing)

    def has_class(self, task_class: int) -> bool:
        """Return whether there is such a class."""
        return task_class < len(self._classes)

    def has_block(self, block: int) -> bool:
        """Return whether there is such a block."""
        return block < len(self._blocks)

    def inputs(self, block: int) -> tuple[messages.Tensor, ...]:
        """Return the tensors that a block reads."""
        return _described(self._blocks[block].inputs)

    def outputs(self, block: int) -> tuple[messages.Tensor, ...]:
        """Return the tensors that a block returns."""
        return _described(self._blocks[block].outputs)


def _described(specs: Sequence[TensorSpec]) -> tuple[messages.Tensor, ...]:
    return tuple(messages.Tensor(spec.dtype, tuple(spec.shape)) for spec in specs)


def pack(tensors: Tensors) -> tuple[tuple[messages.Tensor, ...], list[memoryview]]:
    """Return the description of tensors and their bytes, in C order."""
    described, payload = [], []
    for tensor in tensors:
        name = str(tensor.dtype).removeprefix("torch.")
        described.append(messages.Tensor(name, tuple(tensor.shape)))
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        payload.append(flat.numpy().data)
    return tuple(described), payload


def unpack(described: Sequence[messages.Tensor], payload: bytearray) -> Tensors:
    """Return the tensors of a payload; they share its memory.

    Args:
        described: Their types and shapes.
        payload: Their bytes, of the right length.
    """
    tensors, at = [], 0
    for each in described:
        kind: Any = getattr(torch, each.dtype)
        count = math.prod(each.shape)
        if count:
            flat = torch.frombuffer(payload, dtype=kind, count=count, offset=at)
            if at % flat.element_size():  # every tensor is aligned
                flat = flat.clone()
        else:
            flat = torch.empty(0, dtype=kind)
        tensors.append(flat.reshape(each.shape))
        at += each.size()
    return tuple(tensors)
