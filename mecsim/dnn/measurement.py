"""Measured times and energies of the layers of a network, on one type of node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Final, TypeAlias

from pydantic import ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass

from mecsim.errors import ProfileError
from mecsim.support.validation import Within

Name: TypeAlias = Annotated[str, Field(min_length=1)]
Amount: TypeAlias = Annotated[float, Within(0), Field(allow_inf_nan=False)]


def _fact(value: object) -> object:
    if isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    raise ValueError("should be a text or a finite number")


Fact: TypeAlias = Annotated[str | int | float, PlainValidator(_fact)]

STRICT: Final = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, config=STRICT)
class Measurement:
    """Service times of the layers of a network on one type of node, for one input (batch 1).

    Raises:
        pydantic.ValidationError: If a field has a wrong type or is out of range.
        ProfileError: If the lists differ in length, or an interval ends before it begins.
    """

    ms: Annotated[tuple[Amount, ...], Field(min_length=1)]
    """Time of each layer in ms, the median where it was repeated; in the order of the layers."""
    method: Name
    """How the times were obtained."""
    interval_ms: tuple[tuple[Amount, Amount], ...] | None = None
    """95% interval of the median of each layer, in ms."""
    joules: tuple[Amount, ...] | None = None
    """Energy of each layer in J."""
    whole_ms: Amount | None = None
    """Time of the whole forward pass in ms, measured in one piece."""
    machine: Mapping[Name, Fact] = field(default_factory=dict)
    """The machine and the software: ``cpu``, ``cores``, ``threads``, and so on."""

    def __post_init__(self) -> None:
        for name in ("interval_ms", "joules"):
            values = getattr(self, name)
            if values is not None:
                check_number(name, len(values), len(self.ms))
        for layer, (low, high) in enumerate(self.interval_ms or ()):
            if low > high:
                raise ProfileError(
                    f"interval_ms.{layer}: [{low:g}, {high:g}]; allowed: the lower end first"
                )


def check_number(what: str, found: int, layers: int) -> None:
    """Raise unless there is one value for each layer.

    Raises:
        ProfileError: If the number is another one.
    """
    if found != layers:
        raise ProfileError(f"{what}: has {found} values; allowed: {layers}, one for each layer")
