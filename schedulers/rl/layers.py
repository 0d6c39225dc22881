"""Dense layers over named arrays, for NumPy and PyTorch.

Inputs and parameters may have leading axes: then each entry along these axes is a
network of its own (the blocks of DQN, the trainings of a stack).

Parameters are a dict of arrays. Policies decide with NumPy alone; training passes PyTorch tensors
to the same functions and differentiates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Arrays as Arrays

Tensors: TypeAlias = Mapping[str, Any]
"""NumPy arrays or PyTorch tensors by name; functions return the same kind."""

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Batch: TypeAlias = NDArray[np.float32]
"""Inputs and outputs of networks."""


def dense(name: str, inputs: int, outputs: int, gain: float, rng: np.random.Generator) -> Arrays:
    """Return the initial parameters of a layer: an orthogonal matrix times ``gain``, bias 0."""
    normal = rng.normal(size=(max(inputs, outputs), min(inputs, outputs)))
    matrix, triangle = np.linalg.qr(normal)
    matrix = matrix * np.sign(np.diag(triangle))
    matrix = gain * (matrix if inputs >= outputs else matrix.T)
    return {
        f"{name}.weight": np.ascontiguousarray(matrix, dtype=np.float32),
        f"{name}.bias": np.zeros(outputs, dtype=np.float32),
    }


def apply(p: Tensors, name: str, x: Any) -> Any:
    """Return the outputs of a layer; shape (…, n, outputs)."""
    return _product(x, p[f"{name}.weight"]) + p[f"{name}.bias"][..., None, :]


def _product(x: Any, weight: Any) -> Any:
    """Return the product of rows and a matrix, or of a stack of them.

    PyTorch rounds products with vectors differently where the stack has one entry. Written as a
    sum, they are equal in every stack.
    """
    inputs, outputs = weight.shape[-2:]
    one_row = x.shape[-2] == 1 and not isinstance(x, np.ndarray)
    if weight.ndim == 2 or (min(inputs, outputs) > 1 and not one_row):
        return x @ weight
    if one_row:
        return (x.swapaxes(-1, -2) * weight).sum(-2, keepdims=True)
    if inputs == 1:
        return x * weight
    return (x * weight.swapaxes(-1, -2)).sum(-1, keepdims=True)


def hidden_layers(name: str, inputs: int, units: int, rng: np.random.Generator) -> Arrays:
    """Return the initial parameters of two hidden layers of tanh units."""
    gain = 5.0 / 3.0  # keeps the variance of tanh units
    first = dense(f"{name}.1", inputs, units, gain, rng)
    return first | dense(f"{name}.2", units, units, gain, rng)


def hidden(p: Tensors, name: str, x: Any) -> Any:
    """Return the outputs of the second hidden layer; shape (…, n, units)."""
    return tanh(apply(p, f"{name}.2", tanh(apply(p, f"{name}.1", x))))


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangents of an array or a tensor."""
    return np.tanh(x) if isinstance(x, np.ndarray) else x.tanh()


def softmax(logits: Batch) -> Batch:
    """Return probabilities along the last axis.

    Examples:
        >>> softmax(np.log(np.array([1.0, 3.0], np.float32))).round(2).tolist()
        [0.25, 0.75]
    """
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def sample_softmax(logits: Batch, epsilon: float, rng: np.random.Generator) -> Ints:
    """Sample along the last axis: uniformly with probability ``epsilon``, else by the softmax."""
    noise = rng.random(logits.shape, dtype=np.float32)
    places = (logits - np.log(-np.log(noise + 1e-12) + 1e-12)).argmax(axis=-1)  # Gumbel's trick
    if epsilon <= 0.0:
        return places
    uniform = rng.integers(logits.shape[-1], size=places.shape)
    return np.where(rng.random(places.shape) < epsilon, uniform, places)
