"""The network of a scenario: servers, devices, radio, wired links, energy and reward."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, Tag, field_validator, model_validator

from mecsim.scenario.section import (
    Capacity,
    CsvSeries,
    ExtendedSection,
    MahimahiTrace,
    Pair,
    RateSteps,
    Section,
    UniformRate,
    fault,
    node_shape,
    one_of,
    ordered,
    rate_shape,
)
from mecsim.scenario.units import (
    BitsPerSecond,
    Coordinate,
    Hertz,
    Joules,
    Metres,
    NonNegative,
    NonNegativeSeconds,
    NonNegativeWatts,
    PositiveMetres,
    Watts,
    WattsPerHertz,
)
from mecsim.support.validation import Whole, Within

Position: TypeAlias = Pair[Coordinate]
Cores: TypeAlias = Annotated[int, Within(1, 1024), Whole]
Battery: TypeAlias = Literal["unlimited"] | Joules
RadioRate: TypeAlias = Annotated[
    Annotated[BitsPerSecond, Tag("(number)")]
    | Annotated[UniformRate, Tag("(uniform)")]
    | Annotated[CsvSeries, Tag("(series)")]
    | Annotated[MahimahiTrace, Tag("(mahimahi)")]
    | Annotated[RateSteps, Tag("(steps)")],
    one_of(
        rate_shape,
        "one value, {uniform: [low, high]}, {series: FILE}, {mahimahi: FILE} or "
        "{steps: [[time, rate], …]}",
    ),
]


def _link_rate_shape(value: Any) -> str | None:
    tag = rate_shape(value)
    return None if tag == "(uniform)" else tag


LinkRate: TypeAlias = Annotated[
    Annotated[BitsPerSecond, Tag("(number)")]
    | Annotated[CsvSeries, Tag("(series)")]
    | Annotated[MahimahiTrace, Tag("(mahimahi)")]
    | Annotated[RateSteps, Tag("(steps)")],
    one_of(
        _link_rate_shape,
        "one value, {series: FILE}, {mahimahi: FILE} or {steps: [[time, rate], …]}",
    ),
]


NodeType: TypeAlias = Annotated[str, Field(min_length=1, max_length=100)]


class EdgeServer(ExtendedSection):
    """The edge servers: their speed, coverage and positions."""

    added_keys = ("type",)

    capacity: Capacity = 15e9
    """F_n, cycles per second of each core of a server."""
    cores: Cores = 1
    """Number of cores of each server."""
    coverage_radius: PositiveMetres = 750.0
    """Largest distance of a device from its server in m."""
    spacing: PositiveMetres = 1500.0
    """Distance in m between neighbours on the square grid on which servers stand by default."""
    positions: tuple[Position, ...] | None = None
    """Position [x, y] of each server in m; by default a square grid."""
    type: NodeType | None = None
    """Whose measured service times the servers have (``dnn.service_times``); ``formula`` for
    c_m / F_n by ``capacity``."""


class Device(ExtendedSection):
    """The devices: their speed, positions and batteries."""

    added_keys = ("type", "compute_power")

    capacity: Capacity = 1e9
    """f_d, cycles per second of a device."""
    distance: Pair[Metres] = (310.0, 750.0)
    """Smallest and largest distance from a server in m; devices are assigned to the servers in turn
    and placed uniformly over this ring."""
    positions: tuple[Position, ...] | None = None
    """Position [x, y] of each device in m; by default drawn by ``distance``."""
    battery: Battery = "unlimited"
    """Energy of each device at the start of a run in J, or ``unlimited``."""
    type: NodeType | None = None
    """Whose measured service times the devices have (``dnn.service_times``); ``formula`` for
    c_m / f_d by ``capacity``."""
    compute_power: NonNegativeWatts | None = None
    """Power in W of a device that computes, for measured service times without joules."""

    @field_validator("distance", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float]) -> Pair[float]:
        return ordered(value)


class _Overheads(ExtendedSection):
    """What a transfer takes besides the bits of the feature map."""

    added_keys: ClassVar[tuple[str, ...]] = ("headers", "overhead")

    headers: Annotated[float, Within(0, 10)] = 0.0
    """Bits of headers that a transfer adds for each bit of the feature map."""
    overhead: NonNegativeSeconds = 0.0
    """Time in s for which a transfer occupies its link besides that of its bits."""


class Radio(_Overheads):
    """The radio channel: R = B·log2(1 + p·g/(N0·B)), or rates given directly."""

    added_keys = (*_Overheads.added_keys, "varies_within_transfers")

    bandwidth: Hertz = 2e6
    """B, the bandwidth of a channel in Hz."""
    transmit_power: Watts = 0.15848931924611134  # 22 dBm
    """p, the transmit power of a device in W; 22 dBm by default."""
    noise_density: WattsPerHertz = 3.981071705534972e-21  # -174 dBm/Hz
    """N0, the power density of the noise in W/Hz; -174 dBm/Hz by default."""
    path_loss_intercept_db: Annotated[float, Within(-500, 500)] = 128.1
    """Path loss in dB at a distance of 1 km."""
    path_loss_slope_db: Annotated[float, Within(0, 500)] = 37.6
    """Path loss in dB that a tenfold distance adds: intercept + slope · log10(distance / km)."""
    fading: Literal["none", "rayleigh"] = "none"
    """Small-scale fading, drawn for every device and slot."""
    varies_within_transfers: bool = False
    """Whether a transfer under way takes on the rate of each slot: with ``fading``, with rates that
    are drawn again in every slot, and of devices that move. Else it keeps the rate of the slot in
    which its task was released."""
    rate: RadioRate | None = None
    """R itself in bit/s, in place of the channel model: one rate, ``{uniform: [low, high]}``, or
    one over time: ``{series: FILE}``, ``{mahimahi: FILE}`` or ``{steps: [[time, rate], …]}``."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.rate is not None and self.fading != "none":
            problem = f"{self.fading!r} does not go with a given radio.rate; allowed: 'none'"
            raise fault(("fading",), problem)
        return self


LinkEnd: TypeAlias = Annotated[
    Annotated[int, Within(1), Whole, Tag("(number)")] | Annotated[str, Tag("(name)")],
    one_of(node_shape, "a number or a name"),
]


class Link(Section):
    """One wired link of an explicit topology."""

    model_config = ConfigDict(populate_by_name=False, serialize_by_alias=True)

    source: Annotated[LinkEnd, Field(alias="from")]
    """The server that sends: its number from 1, its name as in ``rack.1``, or a group, for all its
    servers."""
    target: Annotated[LinkEnd, Field(alias="to")]
    """The server that receives, likewise."""
    rate: LinkRate | None = None
    """Rate of this link in bit/s, perhaps over time; by default ``wired.rate``."""
    latency: NonNegativeSeconds | None = None
    """Propagation time of this link in s; by default ``wired.latency``."""
    both_ways: bool = True
    """Whether there is an equal link in the other direction."""


class Wired(_Overheads):
    """The wired network between the edge servers."""

    added_keys = (*_Overheads.added_keys, "reroute")

    topology: Literal["full_mesh", "ring", "star", "line", "tree", "grid", "explicit"] = "full_mesh"
    """How the servers are linked; ``explicit`` means by the list ``links``."""
    rate: LinkRate = 1e9
    """R_max, the rate of each link in bit/s, perhaps over time."""
    latency: NonNegativeSeconds = 0.0
    """Time in s that a bit takes over a link after it is sent."""
    branching: Annotated[int, Within(1), Whole] = 2
    """Number of children of each server in a ``tree``."""
    links: tuple[Link, ...] | None = None
    """The links of an ``explicit`` topology."""
    reroute: bool = True
    """Whether data of tasks that are released while a link is down (``failures``) go around it,
    where there is another way. Else they wait for its repair."""

    @model_validator(mode="after")
    def _links_when_explicit(self) -> Self:
        if self.topology == "explicit" and self.links is None:
            raise fault(("links",), "is missing; topology: explicit needs it")
        if self.topology != "explicit" and self.links is not None:
            problem = f"does not go with topology: {self.topology}; allowed: explicit"
            raise fault(("links",), problem)
        return self


class Energy(Section):
    """The energy model of devices (Eqs. 7 to 11)."""

    kappa: NonNegative = 1e-26
    """κ, the effective capacitance: a cycle at f Hz takes κ·f² joules."""
    literal_eq7: bool = False
    """Whether the transmit power is charged for wired transfers too, as Eq. 7 is printed."""


class Reward(Section):
    """The reward (Eq. 14)."""

    beta: NonNegative = 1.0
    """β, the weight of the penalty for missed deadlines."""
    aggregation: Literal["mean", "sum"] = "mean"
    """How the costs of the tasks of a slot make up its reward: ``mean`` divides the cost of each
    task by the number of tasks released in its slot, ``sum`` adds the costs up."""
