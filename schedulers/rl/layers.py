"""The networks of the learners: dense layers over named arrays, for NumPy and PyTorch alike.

Parameters are a dict of arrays. Policies decide with NumPy alone; training hands the same
functions PyTorch tensors and differentiates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Arrays as Arrays

Tensors: TypeAlias = Mapping[str, Any]
"""Arrays of NumPy, or tensors of PyTorch; functions return the same kind."""

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Batch: TypeAlias = NDArray[np.float32]
"""What networks are fed and return."""


def dense(name: str, inputs: int, outputs: int, gain: float, rng: np.random.Generator) -> Arrays:
    """Return a layer's parameters: an orthogonal matrix times ``gain``, and no bias."""
    drawn = rng.normal(size=(max(inputs, outputs), min(inputs, outputs)))
    matrix, triangle = np.linalg.qr(drawn)
    matrix = matrix * np.sign(np.diag(triangle))
    matrix = gain * (matrix if inputs >= outputs else matrix.T)
    return {
        f"{name}.weight": np.ascontiguousarray(matrix, dtype=np.float32),
        f"{name}.bias": np.zeros(outputs, dtype=np.float32),
    }


def apply(p: Tensors, name: str, x: Any) -> Any:
    """Return a layer's outputs; shape (n, outputs)."""
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def body(name: str, inputs: int, width: int, rng: np.random.Generator) -> Arrays:
    """Return the parameters of two hidden layers of tanh units."""
    gain = 5.0 / 3.0  # keeps the variance of tanh units
    first = dense(f"{name}.1", inputs, width, gain, rng)
    return first | dense(f"{name}.2", width, width, gain, rng)


def hidden(p: Tensors, name: str, x: Any) -> Any:
    """Return what the second hidden layer gives; shape (n, width)."""
    return tanh(apply(p, f"{name}.2", tanh(apply(p, f"{name}.1", x))))


def stacked_apply(p: Tensors, name: str, x: Any) -> Any:
    """Return the outputs of M layers whose parameters are stacked; shape (M, n, outputs)."""
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"][:, None]


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangents of an array or a tensor."""
    return np.tanh(x) if isinstance(x, np.ndarray) else x.tanh()


def softmax(logits: Batch) -> Batch:
    """Return probabilities along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def drawn(logits: Batch, explore: float, rng: np.random.Generator) -> Ints:
    """Draw from softmax(logits), or with probability ``explore`` uniformly, along the last axis."""
    noise = rng.random(logits.shape, dtype=np.float32)
    places = (logits - np.log(-np.log(noise + 1e-12) + 1e-12)).argmax(axis=-1)  # Gumbel's trick
    if explore <= 0.0:
        return places
    uniform = rng.integers(logits.shape[-1], size=places.shape)
    return np.where(rng.random(places.shape) < explore, uniform, places)
