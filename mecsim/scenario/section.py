"""The base of every part of a scenario, and the ways to write a capacity or a rate."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from mecsim.scenario import yaml_source
from mecsim.scenario.units import (
    BitsPerSecond,
    Hertz,
    NonNegativeBitsPerSecond,
    NonNegativeHertz,
    NonNegativeSeconds,
    Seconds,
)
from mecsim.support.text import did_you_mean

T = TypeVar("T")
Pair: TypeAlias = tuple[T, T]


class Section(BaseModel):
    """Base of every part of a scenario: strict, frozen, no unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    keys_of_files: ClassVar[tuple[str, ...]] = ()
    """Keys that a file may have in addition; they are gone when its values are validated."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = UnknownKey((*cls.keys_of_files, *names), cls.keys_of_files)
        return {key: _tuples(data[key]) if key in names else unknown for key in data}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe each key by the docstring of its attribute.

        pydantic's ``use_attribute_docstrings`` reads all sources at import: 0.2 s at each start.
        """
        found = handler(core_schema)
        meanings = attribute_docstrings(cls)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for name, field in cls.model_fields.items():
            if name in meanings and field.description is None:
                properties[field.alias or name]["description"] = meanings[name]
        return found


def attribute_docstrings(cls: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the attributes of a class and of its bases, by attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is BaseModel or not issubclass(base, BaseModel):
            continue
        source = ast.parse(textwrap.dedent(inspect.getsource(base)))
        for attribute, after in pairwise(cast("ast.ClassDef", source.body[0]).body):
            if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name):
                match after:
                    case ast.Expr(ast.Constant(str(text))):
                        found[attribute.target.id] = inspect.cleandoc(text)
    return found


class ExtendedSection(Section):
    """A section with keys that a scenario does not hold at their defaults.

    So the hashes of scenarios that do not use them are those of before the keys existed.
    """

    added_keys: ClassVar[tuple[str, ...]] = ()
    """The keys that are left out at their defaults."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        for key in self.added_keys:
            if getattr(self, key) == type(self).model_fields[key].default:
                document.pop(key, None)
        return document


@dataclass(frozen=True)
class UnknownKey:
    """Stands for the value of an unknown key: pydantic reports all of them, each with this."""

    known: tuple[str, ...]
    only_in_files: tuple[str, ...]

    def problem(self, key: str) -> str:
        """Return what is wrong with a key and what is allowed."""
        if key in self.only_in_files:
            return "can only be given in a file, at its top level"
        return (
            f"is not a known key; {did_you_mean(key, self.known)}allowed: {', '.join(self.known)}"
        )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def fault(keys: yaml_source.Keys, problem: str) -> PydanticCustomError:
    """Return the error of one key of a section, for validators that see the whole section."""
    return PydanticCustomError("fault", "{problem}", {"keys": keys, "problem": problem})


def ordered(bounds: Pair[float]) -> Pair[float]:
    """Return two bounds, the lower one first. Raises ``ValueError``."""
    if bounds[0] > bounds[1]:
        raise ValueError("should have its lower bound first")
    return bounds


class Repeat(Section):
    """Capacities that are assigned in turn, from the first again after the last."""

    repeat: Annotated[tuple[Hertz, ...], Field(min_length=1)]
    """The capacities in cycles per second."""


class Uniform(Section):
    """Capacities drawn uniformly between two bounds, from the seed of the run."""

    uniform: Pair[Hertz]
    """Lowest and highest capacity in cycles per second."""

    @field_validator("uniform", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float]) -> Pair[float]:
        return ordered(value)


class UniformRate(Section):
    """Radio rates drawn uniformly for every device, from the seed of the run."""

    uniform: Pair[BitsPerSecond]
    """Lowest and highest rate in bits per second."""
    redraw: Literal["slot", "run"] = "slot"
    """When rates are drawn: again in every slot, or once at the start of a run."""

    @field_validator("uniform", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float]) -> Pair[float]:
        return ordered(value)


class CsvSeries(ExtendedSection):
    """Values over time from a CSV file: a column of times and one of values, with units.

    Units are in the header, as in ``time (s),rate (Mbit/s)`` or ``time_s,rate_mbit_s``. Times
    count from the first row.
    """

    added_keys: ClassVar[tuple[str, ...]] = ("column", "resolution")

    series: str
    """Path of the file, relative to the file that names it."""
    column: str | None = None
    """Header of the column of values; needed where several may be meant."""
    interpolation: Literal["step", "linear"] = "step"
    """Whether a value holds until the next row, or changes evenly to that of the next row."""
    resolution: Seconds = 0.1
    """Longest step in s into which ``linear`` cuts the time between two rows; each step has the
    value of its middle."""
    end: Literal["hold", "repeat", "error"] = "hold"
    """After the last row: hold its value, repeat the whole, or refuse a series that is shorter than
    the run. The last row lasts as long as the one before it."""

    @model_validator(mode="after")
    def _resolution_is_used(self) -> Self:
        if self.interpolation == "step" and "resolution" in self.model_fields_set:
            problem = "has no effect next to interpolation: step; leave resolution out, or give"
            raise fault(("resolution",), f"{problem} interpolation: linear")
        return self


class MahimahiTrace(Section):
    """A rate from a mahimahi trace: the times in ms at which packets of 1,500 bytes can leave.

    The trace repeats after its last time.
    """

    mahimahi: str
    """Path of the file, relative to the file that names it."""
    bin: Seconds = 1.0
    """Length in s of the bins in which packets are counted; the rate of a bin is constant."""


class _Steps(ExtendedSection):
    added_keys: ClassVar[tuple[str, ...]] = ("period", "nominal")

    period: Seconds | None = None
    """Time in s after which the steps repeat; by default the last value holds for good."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        begins = [begin for begin, _ in getattr(self, "steps", ())]
        if begins[0] != 0 or any(one >= other for one, other in pairwise(begins)):
            raise ValueError("should have steps that begin at 0 and at later and later times")
        if self.period is not None and len(begins) == 1:
            raise fault(("period",), "has no effect on one step; give more steps, or leave it out")
        if self.period is not None and self.period <= begins[-1]:
            raise ValueError(f"should have a period above {begins[-1]:g} s, the last step's begin")
        return self


class RateSteps(_Steps):
    """A rate over time: steps that begin at 0."""

    steps: Annotated[
        tuple[tuple[NonNegativeSeconds, NonNegativeBitsPerSecond], ...], Field(min_length=1)
    ]
    """Begin in s and rate in bit/s of each step."""
    nominal: BitsPerSecond | None = None
    """The rate that plans assume, in bit/s; by default the mean over the steps, the last as long as
    the one before it."""


class CapacitySteps(_Steps):
    """A capacity over time: steps that begin at 0."""

    steps: Annotated[tuple[tuple[NonNegativeSeconds, NonNegativeHertz], ...], Field(min_length=1)]
    """Begin in s and capacity in cycles per second of each step."""
    nominal: Hertz | None = None
    """The capacity that plans assume; by default the mean over the steps, the last as long as the
    one before it."""


OverTime: TypeAlias = CsvSeries | MahimahiTrace | RateSteps | CapacitySteps
"""Values that change over time."""

FORMS_OVER_TIME: Final = ("series", "mahimahi", "steps")
"""Keys that say in which way values over time are written."""


def form_over_time(value: Any) -> str | None:
    """Return the tag of the way in which values over time are written, None for none of them."""
    for key in FORMS_OVER_TIME:
        if hasattr(value, key) if isinstance(value, Section) else key in value:
            return f"({key})"
    return None


def one_of(shape: Callable[[Any], str | None], allowed: str) -> Discriminator:
    """Return the choice among ways to write a value.

    Args:
        shape: Returns the tag of the way in which a value is written, or None for none of them.
            Tags are in brackets, which no key is.
        allowed: The ways, for messages.
    """
    return Discriminator(
        shape, custom_error_type="form", custom_error_message=f"should be {allowed}"
    )


def rate_shape(value: Any) -> str | None:
    """Return the tag of a rate: one value, uniform or over time."""
    if isinstance(value, Uniform | UniformRate):
        return "(uniform)"
    if isinstance(value, dict | Section):
        return "(uniform)" if "uniform" in dict(value) else form_over_time(value)
    return "(number)"


def node_shape(value: Any) -> str | None:
    """Return whether a node is given by its name or by its number; None for neither."""
    if isinstance(value, dict | list | tuple):
        return None
    return "(name)" if isinstance(value, str) else "(number)"


def _capacity_shape(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "(list)"
    if isinstance(value, Repeat) or (isinstance(value, dict) and "repeat" in value):
        return "(repeat)"
    return rate_shape(value)


Capacity: TypeAlias = Annotated[
    Annotated[Hertz, Tag("(number)")]
    | Annotated[tuple[Hertz, ...], Tag("(list)")]
    | Annotated[Repeat, Tag("(repeat)")]
    | Annotated[Uniform, Tag("(uniform)")]
    | Annotated[CsvSeries, Tag("(series)")]
    | Annotated[CapacitySteps, Tag("(steps)")],
    one_of(
        _capacity_shape,
        "one value, a list with one each, {repeat: […]}, {uniform: [low, high]}, {series: FILE} "
        "or {steps: [[time, value], …]}",
    ),
]
"""One value for all, a list with one each, ``{repeat: […]}``, ``{uniform: [low, high]}``, or values
over time: ``{series: FILE}`` or ``{steps: [[time, value], …]}``."""
