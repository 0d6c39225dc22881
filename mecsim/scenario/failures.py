"""Failures of servers, devices and wired links."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, Tag, model_validator

from mecsim.scenario.section import ExtendedSection, Pair, fault, node_shape, one_of
from mecsim.scenario.units import NonNegativeSeconds, Seconds
from mecsim.support.validation import Whole, Within


def _which_shape(value: object) -> str | None:
    if isinstance(value, list | tuple):
        return "(list)"
    return "(all)" if value == "all" else None


Node: TypeAlias = Annotated[
    Annotated[int, Within(0), Whole, Tag("(number)")] | Annotated[str, Tag("(name)")],
    one_of(node_shape, "a number or a name"),
]
Nodes: TypeAlias = Annotated[
    Annotated[Literal["all"], Tag("(all)")]
    | Annotated[tuple[Node, ...], Field(min_length=1), Tag("(list)")],
    one_of(_which_shape, "all or a list of numbers or names"),
]
Cables: TypeAlias = Annotated[
    Annotated[Literal["all"], Tag("(all)")]
    | Annotated[tuple[Pair[Node], ...], Field(min_length=1), Tag("(list)")],
    one_of(_which_shape, "all or a list of pairs of servers"),
]


class Failure(ExtendedSection):
    """Failures of some servers, devices or links: at given times, or at random."""

    added_keys: ClassVar[tuple[str, ...]] = (
        *("servers", "devices", "links", "at"),
        *("mean_time_to_failure", "mean_time_to_repair"),
    )

    servers: Nodes | None = None
    """The servers that fail, each by itself: a list of numbers from 1 or names, or ``all``. A
    failed server does not compute; its radio and its links still work."""
    devices: Nodes | None = None
    """The devices that fail: a list of numbers from 0 or names, or ``all``. A failed device neither
    computes nor sends nor receives."""
    links: Cables | None = None
    """The wired links that fail: a list of pairs of servers that they join, or ``all``. Both
    directions of a link fail together."""
    at: Annotated[tuple[Pair[NonNegativeSeconds], ...], Field(min_length=1)] | None = None
    """Begin and end in s of each outage, in order; in place of random failures."""
    mean_time_to_failure: Seconds | None = None
    """Mean time in s from repair to failure; the time is exponential. Nothing fails after the last
    slot."""
    mean_time_to_repair: Seconds | None = None
    """Mean time in s from failure to repair; the time is exponential."""
    work: Literal["resumes", "restarts", "lost"] = "resumes"
    """What happens to work that a failure interrupts: it resumes after the repair, it restarts from
    its beginning, or all tasks in service or waiting there are lost and fail at that instant."""
    arrivals: Literal["wait", "fail"] = "wait"
    """What happens to tasks that come during an outage: they wait for the repair, or fail."""

    @property
    def loses(self) -> bool:
        """Whether tasks can be lost in it."""
        return self.work == "lost" or self.arrivals == "fail"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.servers is None and self.devices is None and self.links is None:
            raise ValueError("names nothing that fails; allowed: servers, devices or links")
        random = self.mean_time_to_failure, self.mean_time_to_repair
        if self.at is not None:
            for key, value in zip(_RANDOM, random, strict=True):
                if value is not None:
                    raise fault((key,), "has no effect next to at; leave one of them out")
            self._check_times(self.at)
        elif None in random:
            raise ValueError(
                f"does not say when; allowed: at, or {_RANDOM[0]} and {_RANDOM[1]} together"
            )
        return self

    @staticmethod
    def _check_times(at: tuple[Pair[float], ...]) -> None:
        for row, (begin, end) in enumerate(at):
            if begin >= end:
                raise fault(("at", row), f"[{begin:g} s, {end:g} s] should begin before it ends")
        for row, ((_, end), (begin, _)) in enumerate(pairwise(at), start=1):
            if begin <= end:
                problem = f"begins at {begin:g} s; allowed: after the one before, {end:g} s"
                raise fault(("at", row), problem)


_RANDOM = ("mean_time_to_failure", "mean_time_to_repair")
