"""A module that is quick to make."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def make() -> nn.Module:
    """Return two linear layers, (1, 4) → (1, 2)."""
    return nn.Sequential(OrderedDict(first=nn.Linear(4, 3), second=nn.Linear(3, 2)))
