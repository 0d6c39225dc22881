"""The tasks of a scenario: the DNN that they run, their sizes and their arrivals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from mecsim.scenario.document import FORMULA
from mecsim.scenario.section import ExtendedSection, Section, fault, one_of
from mecsim.scenario.units import NonNegative, NonNegativeSeconds, Positive, Seconds
from mecsim.support.validation import Whole, Within

PerBlock: TypeAlias = Annotated[tuple[NonNegative, ...], Field(min_length=1)]


def _listed_by_type(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: tuple(each) if isinstance(each, list) else each for key, each in value.items()}


PerType: TypeAlias = Annotated[
    Mapping[str, PerBlock], Field(min_length=1), BeforeValidator(_listed_by_type)
]


def _check_types(ms: Mapping[str, Any] | None, joules: Mapping[str, Any] | None) -> None:
    """Raise a fault for types of nodes that cannot be, or have energies without times."""
    for node in joules or {}:
        if node not in (ms or {}):
            known = ", ".join(ms or {}) or "none, for there is no ms"
            raise fault(("joules", node), f"is no type of ms; allowed: {known}")
    if any(not node.strip() for node in ms or {}):
        raise fault(("ms",), "has a type of node without a name; allowed: a name for each")
    if FORMULA in (ms or {}):
        raise fault(("ms", FORMULA), "names what is not measured; allowed: another type")


def _check_lengths(columns: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ``ValueError`` unless all columns have a value for each block."""
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(f"has {found}; allowed: equal numbers of them")


def _by_type(
    ms: Mapping[str, tuple[Any, ...]] | None, joules: Mapping[str, tuple[Any, ...]] | None
) -> dict[str, tuple[Any, ...]]:
    """Return the columns of measured times and energies by name."""
    both = (("ms", ms or {}), ("joules", joules or {}))
    return {f"{name} of {node}": column for name, of in both for node, column in of.items()}


class BlockTable(ExtendedSection):
    """A DNN given by its blocks, each for a task of size factor 1."""

    added_keys = ("flops", "ms", "joules")

    flops: PerBlock | None = None
    """FLOPs of each block (1 multiply-add = 2 FLOPs); needed where service times follow from
    them."""
    parameter_bytes: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    """d_m, the size of the parameters of each block in bytes."""
    input_bits: Annotated[tuple[NonNegative, ...], Field(min_length=1)]
    """I_m, the size of the input of each block in bits; the first is the raw input."""
    output_bits: NonNegative = 0.0
    """The size of the result of the last block in bits."""
    names: tuple[str, ...] | None = None
    """A name for each block; by default block0, block1, and so on."""
    ms: PerType | None = None
    """Measured service times: for each type of node, the milliseconds of each block."""
    joules: PerType | None = None
    """Measured energy of computing: for types of ``ms``, the joules of each block."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        names = ("flops", "parameter_bytes", "input_bits", "names")
        columns = {name: getattr(self, name) for name in names if getattr(self, name)}
        _check_lengths(columns | _by_type(self.ms, self.joules))
        _check_types(self.ms, self.joules)
        return self


class BlockTimes(ExtendedSection):
    """Measured service times of the blocks of a model, as ``mecsim calibrate`` writes them."""

    added_keys = ("joules", "features")

    ms: PerType
    """For each type of node, the milliseconds of each block."""
    joules: PerType | None = None
    """Measured energy of computing: for types of ``ms``, the joules of each block."""
    features: Literal["cycles", "compute_s"] = "cycles"
    """What features have of the work of a block: its cycles, as where service times follow from
    them, so that policies fit both; or its service time as a mean over the places."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _check_lengths(_by_type(self.ms, self.joules))
        _check_types(self.ms, self.joules)
        return self


def _times_shape(value: Any) -> str:
    if isinstance(value, BlockTimes | dict):
        return "(table)"
    return "(list)" if isinstance(value, list | tuple) else "(text)"


def _profiles(value: str | tuple[str, ...] | BlockTimes) -> str | tuple[str, ...] | BlockTimes:
    if isinstance(value, BlockTimes) or value in (FORMULA, "measured"):
        return value
    files = (value,) if isinstance(value, str) else value
    for file in files:
        if not file.endswith(".json"):
            allowed = f"{FORMULA}, measured, or the path of a profile that ends in .json"
            raise ValueError(f"should be {allowed}")
    return files


ServiceTimes: TypeAlias = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[tuple[str, ...], Field(min_length=1, strict=True), Tag("(list)")]
    | Annotated[BlockTimes, Tag("(table)")],
    one_of(_times_shape, "formula, measured, a file, a list of files or a table"),
    AfterValidator(_profiles),
]


def _model_shape(value: Any) -> str:
    return "(table)" if isinstance(value, BlockTable | dict) else "(name)"


class Dnn(ExtendedSection):
    """The DNN of every task and how it is cut into blocks."""

    added_keys = ("live_tensors", "service_times")

    model: Annotated[
        Annotated[str, Tag("(name)")] | Annotated[BlockTable, Tag("(table)")],
        Discriminator(_model_shape),
    ] = "vgg16"
    """A shipped profile (``mecsim profile --list``), the path of a profile's JSON file, or a table
    of blocks."""
    blocks: Annotated[int, Within(1), Whole] | None = None
    """M, the number of blocks; needed for ``cut: balanced``, otherwise only checked."""
    cut: Literal["balanced", "stages"] | Annotated[tuple[str, ...], Field(strict=True)] = "balanced"
    """Where the DNN is cut: ``balanced`` by cycles, after the model's ``stages``, or after the
    layers in this list."""
    live_tensors: Annotated[int, Within(1), Whole] = 1
    """The most tensors that may cross a cut; the sum of their sizes crosses."""
    cycles_per_flop: Positive = 1.0
    """Processor cycles for one FLOP."""
    max_tolerated_delay: Seconds | Annotated[tuple[Seconds, ...], Field(min_length=1)] = 3.0
    """τ_m, the deadline of a block in s: one for all blocks or a list with one each."""
    service_times: ServiceTimes = FORMULA
    """How long blocks take: ``formula`` (cycles / capacity), ``measured`` (the columns that the
    model has for types of nodes), profiles with further columns (a JSON file or a list), or a table
    with the times of each block."""

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> Self:
        if isinstance(self.model, BlockTable) and self.cut != "balanced":
            raise fault(("cut",), f"{self.cut!r} does not go with a table of blocks; leave it out")
        if self.live_tensors != 1 and (isinstance(self.model, BlockTable) or self.cut == "stages"):
            cut = "a table of blocks" if isinstance(self.model, BlockTable) else "cut: stages"
            raise fault(
                ("live_tensors",), f"{self.live_tensors} does not go with {cut}; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        if not isinstance(self.model, BlockTable):
            return self
        if isinstance(self.service_times, tuple | BlockTimes):
            files = isinstance(self.service_times, tuple)
            holds = "names files, which do" if files else "is a table, which does"
            problem = f"{holds} not go with a table of blocks"
            raise fault(("service_times",), f"{problem}; give model.ms and service_times: measured")
        if self.measured and self.model.ms is None:
            raise fault(("model", "ms"), "is missing; service_times: measured needs it")
        if not self.measured and self.model.flops is None:
            problem = "is missing; service_times: formula needs it"
            raise fault(("model", "flops"), problem)
        for key in () if self.measured else ("ms", "joules"):
            if getattr(self.model, key) is not None:
                problem = f"has no effect next to service_times: {FORMULA}"
                raise fault(("model", key), f"{problem}; give service_times: measured")
        return self

    @property
    def measured(self) -> bool:
        """Whether service times are measured, at all nodes but those of type ``formula``."""
        return self.service_times != FORMULA


Per: TypeAlias = Literal["slot", "task", "block"]
"""How often a size factor is drawn."""


class ConstantSize(Section):
    """Every task has size factor 1."""

    distribution: Literal["constant"] = "constant"
    """All tasks have the same size."""


class UniformSize(Section):
    """Size factor uniform in [low, high], with mean 1."""

    distribution: Literal["uniform"]
    """The size factor is uniform in [low, high]."""
    low: Positive
    """Smallest size factor."""
    high: Positive
    """Largest size factor; low + high = 2."""
    per: Per = "task"
    """Whether a factor is drawn for each slot, each task or each block."""

    @model_validator(mode="after")
    def _mean_one(self) -> Self:
        if self.low > self.high or abs(self.low + self.high - 2) > 1e-9:
            mean = "allowed: low ≤ high with a mean of 1, so low + high = 2"
            raise ValueError(f"has low {self.low:g} and high {self.high:g}; {mean}")
        return self


class ExponentialSize(Section):
    """Size factor exponential with mean 1."""

    distribution: Literal["exponential"]
    """The size factor is exponential."""
    per: Per = "task"
    """Whether a factor is drawn for each slot, each task or each block."""


class LognormalSize(Section):
    """Size factor lognormal with mean 1."""

    distribution: Literal["lognormal"]
    """The size factor is lognormal."""
    sigma: Annotated[float, Within(high=5, above=0)]
    """Standard deviation of the logarithm of the size factor."""
    per: Per = "task"
    """Whether a factor is drawn for each slot, each task or each block."""


SizeFactor: TypeAlias = Annotated[
    ConstantSize | UniformSize | ExponentialSize | LognormalSize, Discriminator("distribution")
]

Rate = Annotated[float, Within(0, 1e7)]
"""Tasks per slot."""


class Slotted(Section):
    """λ tasks at the start of each slot, assigned to the devices in turn."""

    process: Literal["slotted"] = "slotted"
    """All tasks of a slot are released at its start."""
    rate: Rate = 60.0
    """λ, tasks per slot."""


class Deterministic(Section):
    """λ tasks per slot, evenly spaced, assigned to the devices in turn."""

    process: Literal["deterministic"]
    """Tasks are released at equal distances in time."""
    rate: Rate
    """λ, tasks per slot."""


class Poisson(Section):
    """A Poisson process of λ tasks per slot; the device of each task is drawn uniformly."""

    process: Literal["poisson"]
    """Times between releases are exponential."""
    rate: Rate
    """λ, mean number of tasks per slot."""


class Mmpp(Section):
    """A Markov-modulated Poisson process (bursts). It visits its states in turn."""

    process: Literal["mmpp"]
    """A Poisson process whose rate depends on a state."""
    rates: Annotated[tuple[Rate, ...], Field(min_length=2)]
    """Mean number of tasks per slot in each state."""
    mean_dwell: Annotated[tuple[Seconds, ...], Field(min_length=2)]
    """Mean time in s in each state; the time is exponential."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.rates) != len(self.mean_dwell):
            found = f"{len(self.rates)} rates and {len(self.mean_dwell)} mean_dwell times"
            raise ValueError(f"has {found}; allowed: equal numbers of them")
        return self


class RecordedTasks(Section):
    """The tasks of a recorded trace: release, device and size of each.

    Of a trace with several classes of tasks, a class takes the tasks of the class of its name.
    """

    process: Literal["trace"]
    """Tasks are those of an earlier run."""
    file: str
    """Path of the trace, relative to the file that names it."""


class CsvTasks(ExtendedSection):
    """Tasks from a CSV file: their times and, where it has such columns, device, size and class.

    Times have a unit in the header, as in ``time (s)``, and count from the start of the run, or
    are time stamps as ``2023-11-16 18:15:46.68``, which count from the first row.
    """

    added_keys: ClassVar[tuple[str, ...]] = ("time",)

    process: Literal["csv"]
    """Tasks are those of a file."""
    file: str
    """Path of the file, relative to the file that names it."""
    time: str | None = None
    """Header of the column of times; by default ``time``, ``t`` or ``timestamp``, with a unit or
    not, in any case of letters."""
    beyond: Literal["error", "drop"] = "error"
    """Whether tasks after the last slot are refused or left out."""


class ListedTasks(ExtendedSection):
    """Tasks one by one, as a trace keeps those of a CSV file."""

    added_keys: ClassVar[tuple[str, ...]] = ("devices", "sizes")

    process: Literal["listed"]
    """Tasks are those of a list."""
    release: tuple[NonNegativeSeconds, ...]
    """When each task is released, in s from the start of the run, in order."""
    devices: tuple[Annotated[int, Within(0), Whole], ...] | None = None
    """Device of each task, from 0; by default drawn uniformly for each task."""
    sizes: tuple[NonNegative, ...] | None = None
    """Size factor of each task; by default drawn by ``size_factor``."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key in ("devices", "sizes"):
            values = getattr(self, key)
            if values is not None and len(values) != len(self.release):
                found = f"has {len(values)} entries; allowed: {len(self.release)}, one each"
                raise fault((key,), found)
        if any(one > other for one, other in pairwise(self.release)):
            raise fault(("release",), "should be in order of time")
        return self


Arrivals: TypeAlias = Annotated[
    Slotted | Deterministic | Poisson | Mmpp | RecordedTasks | CsvTasks | ListedTasks,
    Discriminator("process"),
]


Retries = Annotated[int, Within(0, 1000), Whole]


class TaskClass(ExtendedSection):
    """A class of tasks: a DNN with its own arrivals, sizes and deadline."""

    added_keys: ClassVar[tuple[str, ...]] = ("retries",)

    name: str
    """Its name in tables, traces and messages: letters, digits, ``_``, ``-`` and ``.``."""
    dnn: Dnn
    """The model that every task of the class runs, cut into blocks."""
    arrivals: Arrivals = Slotted()
    """When tasks of the class are released and by which devices."""
    size_factor: SizeFactor = ConstantSize()
    """The scale of a task's cycles and bits; its mean is 1."""
    deadline: Seconds | None = None
    """The time in s from the release of a task until its last block should have finished."""
    drop_late: bool = False
    """Whether a task is dropped where its next service would begin after its deadline."""
    retries: Retries = 0
    """How many times a task that is lost in a failure is placed again, before it fails."""
    devices: dict[str, NonNegative] | None = None
    """Which groups of devices release its tasks: a weight for each group; by default all devices
    equally. A group releases the share of the tasks that its weight has of all weights."""
    priority: str = ""
    """A label for people and schedulers; it does not change the order of service."""

    @field_validator("name", mode="after")
    @classmethod
    def _short_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", value):
            allowed = "1 to 40 letters, digits, '_', '-' and '.', the first a letter or a digit"
            raise ValueError(f"is no name of a class; allowed: {allowed}")
        return value

    @model_validator(mode="after")
    def _deadline_to_drop(self) -> Self:
        check_drop_late(self.deadline, drop_late=self.drop_late)
        return self

    @model_validator(mode="after")
    def _recorded_as_they_are(self) -> Self:
        if isinstance(self.arrivals, RecordedTasks):
            effect = "has no effect next to arrivals.process: trace; leave it out"
            if not isinstance(self.size_factor, ConstantSize):
                raise fault(("size_factor",), f"{effect}: recorded tasks have their own sizes")
            if self.devices is not None:
                raise fault(("devices",), f"{effect}: recorded tasks have their own devices")
        return self


def check_drop_late(deadline: float | None, *, drop_late: bool) -> None:
    """Raise a fault where tasks are to be dropped at a deadline that is not given."""
    if drop_late and deadline is None:
        raise fault(("drop_late",), "true needs a deadline; give deadline, or leave drop_late out")
