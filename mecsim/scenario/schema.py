"""What a person writes: a scenario, as strict and frozen pydantic models with units.

A scenario describes a network, a DNN and its tasks; it holds no randomness and no policy. It is
read from YAML with :func:`load` and turned into arrays by :func:`mecsim.model.model.resolve`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mecsim.errors import InputError
from mecsim.scenario import yaml_source
from mecsim.scenario.units import (
    BitsPerSecond,
    Coordinate,
    Hertz,
    Joules,
    Latency,
    Metres,
    NonNegative,
    Positive,
    Seconds,
    Watts,
    WattsPerHertz,
)
from mecsim.support.text import did_you_mean

T = TypeVar("T")
Pair: TypeAlias = tuple[T, T]
Position: TypeAlias = Pair[Coordinate]


class Section(BaseModel):
    """Base of every part of a scenario: strict, frozen, no unknown keys."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data:
            if key not in names:
                raise PydanticCustomError("unknown_key", "{advice}", _advice(str(key), names))
        return {key: _tuples(value) for key, value in data.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _advice(key: str, names: Sequence[str]) -> dict[str, Any]:
    problem = f"is not a known key; {did_you_mean(key, names)}allowed: {', '.join(names)}"
    return {"key": key, "advice": problem}


def _fault(keys: yaml_source.Keys, problem: str) -> PydanticCustomError:
    """Return the error of one key of a section, where a validator sees the whole section."""
    return PydanticCustomError("fault", "{problem}", {"keys": keys, "problem": problem})


class Repeat(Section):
    """Capacities dealt out in turn, again and again, to any number of entities."""

    repeat: Annotated[tuple[Hertz, ...], Field(min_length=1)]


class Uniform(Section):
    """Capacities drawn uniformly between two bounds, from the seed of the run."""

    uniform: Pair[Hertz]

    @field_validator("uniform", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float]) -> Pair[float]:
        return _ordered(value)


class UniformRate(Section):
    """Radio rates drawn uniformly for every device, anew for each slot or once a run."""

    uniform: Pair[BitsPerSecond]
    redraw: Literal["slot", "run"] = "slot"

    @field_validator("uniform", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float]) -> Pair[float]:
        return _ordered(value)


def _ordered(bounds: Pair[float]) -> Pair[float]:
    if bounds[0] > bounds[1]:
        raise ValueError("should have its lower bound first")
    return bounds


def _shape(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "(list)"
    if isinstance(value, Repeat) or (isinstance(value, dict) and "repeat" in value):
        return "(repeat)"
    return _rate_shape(value)


def _model_shape(value: Any) -> str:
    return "(table)" if isinstance(value, BlockTable | dict) else "(name)"


def _rate_shape(value: Any) -> str | None:
    if isinstance(value, dict) and "uniform" not in value:
        return None
    return "(uniform)" if isinstance(value, Uniform | UniformRate | dict) else "(number)"


def _one_of(shape: Callable[[Any], str | None], allowed: str) -> Discriminator:
    """Choose among ways of writing a value; their tags are in brackets, as no key ever is."""
    return Discriminator(
        shape, custom_error_type="form", custom_error_message=f"should be {allowed}"
    )


Capacity: TypeAlias = Annotated[
    Annotated[Hertz, Tag("(number)")]
    | Annotated[tuple[Hertz, ...], Tag("(list)")]
    | Annotated[Repeat, Tag("(repeat)")]
    | Annotated[Uniform, Tag("(uniform)")],
    _one_of(_shape, "one value, a list with one each, {repeat: […]} or {uniform: [low, high]}"),
]
"""One value for all, a list with one each, ``{repeat: […]}`` or ``{uniform: [low, high]}``."""


class BlockTable(Section):
    """Blocks given by their numbers, for a task of size factor 1."""

    flops: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    parameter_bytes: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    input_bits: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    """The first is the raw input."""
    output_bits: NonNegative = 0.0
    """The result of the last block."""
    names: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        names = ("flops", "parameter_bytes", "input_bits", "names")
        counts = {name: len(getattr(self, name)) for name in names if getattr(self, name)}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ValueError(f"has {found}; allowed: as many of each")
        return self


class Dnn(Section):
    """The DNN of every task and how it is cut into blocks."""

    model: Annotated[
        Annotated[str, Tag("(name)")] | Annotated[BlockTable, Tag("(table)")],
        Discriminator(_model_shape),
    ] = "vgg16"
    """A shipped profile (``mecsim profile --list``), the path of a profile's JSON file, or a table
    of blocks."""
    blocks: Annotated[int, Field(ge=1)] | None = None
    """M. Needed for ``cut: balanced``; otherwise only checked."""
    cut: Literal["balanced", "stages"] | Annotated[tuple[str, ...], Field(strict=True)] = "balanced"
    """``balanced`` by cycles, after the model's named ``stages``, or after the layers listed."""
    cycles_per_flop: Positive = 1.0
    max_tolerated_delay: Seconds | Annotated[tuple[Seconds, ...], Field(min_length=1)] = 3.0
    """τ_m, one for all blocks or one each."""

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> Self:
        if isinstance(self.model, BlockTable) and self.cut != "balanced":
            raise _fault(("cut",), f"{self.cut!r} does not go with a table of blocks; leave it out")
        return self


Per: TypeAlias = Literal["slot", "task", "block"]


class ConstantSize(Section):
    """Every task has size factor 1."""

    distribution: Literal["constant"] = "constant"


class UniformSize(Section):
    """Size factor uniform in [low, high], with mean 1."""

    distribution: Literal["uniform"]
    low: Positive
    high: Positive
    per: Per = "task"

    @model_validator(mode="after")
    def _mean_one(self) -> Self:
        if self.low > self.high or abs(self.low + self.high - 2) > 1e-9:
            mean = "allowed: low ≤ high with a mean of 1, so low + high = 2"
            raise ValueError(f"has low {self.low:g} and high {self.high:g}; {mean}")
        return self


class ExponentialSize(Section):
    """Size factor exponential with mean 1."""

    distribution: Literal["exponential"]
    per: Per = "task"


class LognormalSize(Section):
    """Size factor lognormal with mean 1; ``sigma`` is the standard deviation of its logarithm."""

    distribution: Literal["lognormal"]
    sigma: Annotated[float, Field(gt=0, le=5)]
    per: Per = "task"


SizeFactor: TypeAlias = Annotated[
    ConstantSize | UniformSize | ExponentialSize | LognormalSize, Discriminator("distribution")
]

Rate = Annotated[float, Field(ge=0, le=1e7)]
"""Tasks a slot."""


class Slotted(Section):
    """λ tasks at each slot's start, dealt to the devices in turn."""

    process: Literal["slotted"] = "slotted"
    rate: Rate = 60.0


class Deterministic(Section):
    """λ tasks a slot, evenly spread, dealt to the devices in turn."""

    process: Literal["deterministic"]
    rate: Rate


class Poisson(Section):
    """A Poisson process of λ tasks a slot; each task comes from a device drawn uniformly."""

    process: Literal["poisson"]
    rate: Rate


class Mmpp(Section):
    """A Markov-modulated Poisson process: bursts. States follow each other in a circle."""

    process: Literal["mmpp"]
    rates: Annotated[tuple[Rate, ...], Field(min_length=2)]
    """Tasks a slot in each state."""
    mean_dwell: Annotated[tuple[Seconds, ...], Field(min_length=2)]
    """Mean time in each state (exponential)."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.rates) != len(self.mean_dwell):
            found = f"{len(self.rates)} rates and {len(self.mean_dwell)} mean_dwell times"
            raise ValueError(f"has {found}; allowed: as many of each")
        return self


class RecordedTasks(Section):
    """The tasks (release, device, size) of a recorded trace."""

    process: Literal["trace"]
    file: str


Arrivals: TypeAlias = Annotated[
    Slotted | Deterministic | Poisson | Mmpp | RecordedTasks, Discriminator("process")
]


class EdgeServer(Section):
    """What the edge servers are like and where they stand."""

    capacity: Capacity = 15e9
    """F_n in cycles a second, of each core."""
    cores: Annotated[int, Field(ge=1, le=1024)] = 1
    coverage_radius: Annotated[Metres, Field(gt=0)] = 750.0
    spacing: Annotated[Metres, Field(gt=0)] = 1500.0
    """Distance between neighbours on the square grid on which servers stand by default."""
    positions: tuple[Position, ...] | None = None


class Device(Section):
    """What the devices are like and where they are."""

    capacity: Capacity = 1e9
    """f_d in cycles a second."""
    distance: Pair[Metres] = (310.0, 750.0)
    """Nearest and farthest from the server around which a device is dropped (devices are dealt to
    the servers in turn; the drop is uniform over the ring)."""
    positions: tuple[Position, ...] | None = None
    battery: Literal["unlimited"] | Joules = "unlimited"

    @field_validator("distance", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float]) -> Pair[float]:
        return _ordered(value)


class Radio(Section):
    """The radio hop: R = B·log2(1 + p·g/(N0·B)), or rates given directly."""

    bandwidth: Hertz = 2e6
    transmit_power: Watts = 10 ** ((22.0 - 30.0) / 10)
    noise_density: WattsPerHertz = 10 ** ((-174.0 - 30.0) / 10)
    path_loss_intercept_db: Annotated[float, Field(ge=-500, le=500)] = 128.1
    path_loss_slope_db: Annotated[float, Field(ge=0, le=500)] = 37.6
    """Loss in dB = intercept + slope · log10(distance / km)."""
    fading: Literal["none", "rayleigh"] = "none"
    rate: (
        Annotated[
            Annotated[BitsPerSecond, Tag("(number)")] | Annotated[UniformRate, Tag("(uniform)")],
            _one_of(_rate_shape, "one value or {uniform: [low, high]}"),
        ]
        | None
    ) = None
    """R directly, in place of the radio model: one rate, or ``{uniform: [low, high]}``."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.rate is not None and self.fading != "none":
            problem = f"{self.fading!r} does not go with a given radio.rate; allowed: 'none'"
            raise _fault(("fading",), problem)
        return self


class Link(Section):
    """One wired link of an explicit topology; ``both_ways`` makes it two, one each way."""

    model_config = ConfigDict(populate_by_name=False, serialize_by_alias=True)

    source: Annotated[int, Field(ge=1, alias="from")]
    target: Annotated[int, Field(ge=1, alias="to")]
    rate: BitsPerSecond | None = None
    latency: Latency | None = None
    both_ways: bool = True


class Wired(Section):
    """The wired network between the edge servers; ``rate`` and ``latency`` hold for every link."""

    topology: Literal["full_mesh", "ring", "star", "line", "tree", "grid", "explicit"] = "full_mesh"
    rate: BitsPerSecond = 1e9
    """R_max."""
    latency: Latency = 0.0
    """Propagation time, after the link has sent the last bit."""
    branching: Annotated[int, Field(ge=1)] = 2
    """Children of each server in a ``tree``."""
    links: tuple[Link, ...] | None = None
    """The links of an ``explicit`` topology; each may have a rate and a latency of its own."""

    @model_validator(mode="after")
    def _links_when_explicit(self) -> Self:
        if self.topology == "explicit" and self.links is None:
            raise _fault(("links",), "is missing; topology: explicit needs it")
        if self.topology != "explicit" and self.links is not None:
            problem = f"does not go with topology: {self.topology}; allowed: explicit"
            raise _fault(("links",), problem)
        return self


class Energy(Section):
    """What a device's energy is counted for."""

    kappa: NonNegative = 1e-26
    literal_eq7: bool = False
    """Charge the transmit power for all transfer time, wired too, as Eq. 7 is printed."""


class Reward(Section):
    """The reward of Eq. 14."""

    beta: NonNegative = 1.0


@dataclass(frozen=True)
class Origin:
    """Where a scenario was written; two are equal, for scenarios are equal by what they say."""

    document: yaml_source.Document = dataclasses.field(compare=False)

    def located(self, message: str) -> str:
        """Put file and line before a message that begins with the path of a key and a colon."""
        path = message.partition(": ")[0]
        keys = tuple(int(key) if key.isdecimal() else key for key in path.split("."))
        where = self.document.locate(keys)
        known = keys[0] in Scenario.model_fields
        return f"{where}: {message}" if known and where else message


class Scenario(Section):
    """A network, a DNN, its tasks, and for how long."""

    _origin: Origin = PrivateAttr(Origin(yaml_source.Document({})))

    description: str = ""
    slots: Annotated[int, Field(ge=1, le=10_000_000)] = 600
    slot_length: Seconds = 1.0
    decision_epoch: Literal["per_slot", "per_task"] = "per_slot"
    """One placement for all tasks released in a slot, or one for each task."""
    dnn: Dnn = Dnn(blocks=6)
    size_factor: SizeFactor = ConstantSize()
    arrivals: Arrivals = Slotted()
    edge_servers: Annotated[int, Field(ge=1, le=100_000)] = 4
    edge_server: EdgeServer = EdgeServer()
    devices: Annotated[int, Field(ge=1, le=10_000_000)] = 30
    device: Device = Device()
    radio: Radio = Radio()
    wired: Wired = Wired()
    energy: Energy = Energy()
    reward: Reward = Reward()
    return_result: bool = False
    """Send the final result back to the device (counted with the last block)."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        self._one_each("edge_server", self.edge_server, self.edge_servers)
        self._one_each("device", self.device, self.devices)
        if isinstance(self.arrivals, Mmpp) and min(self.arrivals.mean_dwell) < self._least_dwell:
            least = f"allowed: at least {self._least_dwell:g} s (slot_length / 1000)"
            problem = f"has a dwell time of {min(self.arrivals.mean_dwell):g} s; {least}"
            raise _fault(("arrivals", "mean_dwell"), problem)
        for number, link in enumerate(self.wired.links or ()):
            for end in (link.source, link.target):
                if end > self.edge_servers:
                    keys = ("wired", "links", number)
                    raise _fault(keys, f"joins server {end}; allowed: 1 to {self.edge_servers}")
            if link.source == link.target:
                raise _fault(("wired", "links", number), "joins a server with itself")
        return self

    @property
    def _least_dwell(self) -> float:
        return self.slot_length / 1000

    @staticmethod
    def _one_each(name: str, section: EdgeServer | Device, count: int) -> None:
        for key, values in (("capacity", section.capacity), ("positions", section.positions)):
            if isinstance(values, tuple) and len(values) != count:
                raise _fault((name, key), f"has {len(values)} entries; allowed: {count}, one each")

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Put file and line before what turns out to be wrong with a value of this scenario."""
        try:
            yield
        except InputError as error:
            raise type(error)(self._origin.located(str(error))) from error

    def canonical_json(self) -> str:
        """Return the scenario as JSON with every value resolved to SI and keys sorted."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)

    def sha256(self) -> str:
        """Return the hash of what matters to a run: all but the description."""
        return self._sha256_with(description="")

    def sha256_of_slots(self) -> str:
        """Return the hash of what matters to a slot: all but the description and their number."""
        return self._sha256_with(description="", slots=1)

    def _sha256_with(self, **changes: Any) -> str:
        matters = self.model_copy(update=changes).canonical_json()
        return hashlib.sha256(matters.encode()).hexdigest()
