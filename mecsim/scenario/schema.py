"""The schema of scenario files: strict and frozen pydantic models with units.

A scenario describes a network, a DNN and its tasks; it holds no randomness and no policy. It is
read from YAML with :func:`mecsim.load` and turned into arrays by :func:`mecsim.model.resolve`.
The classes of its parts are in :mod:`mecsim.scenario.network` and :mod:`mecsim.scenario.tasks`;
all of them can be imported from here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mecsim.errors import InputError
from mecsim.scenario import groups, yaml_source
from mecsim.scenario.document import FORMULA
from mecsim.scenario.failures import Failure
from mecsim.scenario.groups import DeviceGroup, Devices, ServerGroup, Servers
from mecsim.scenario.measurement import Measurement
from mecsim.scenario.mobility import Movement
from mecsim.scenario.network import Device, EdgeServer, Energy, Link, Radio, Reward, Wired
from mecsim.scenario.section import (
    Capacity,
    CsvSeries,
    MahimahiTrace,
    RateSteps,
    Repeat,
    Section,
    Uniform,
    UniformRate,
    fault,
)
from mecsim.scenario.tasks import (
    Arrivals,
    BlockTable,
    BlockTimes,
    ConstantSize,
    CsvTasks,
    Deterministic,
    Dnn,
    ExponentialSize,
    ListedTasks,
    LognormalSize,
    Mmpp,
    Poisson,
    RecordedTasks,
    Retries,
    SizeFactor,
    Slotted,
    TaskClass,
    UniformSize,
    check_drop_late,
)
from mecsim.scenario.testbed import Calibrated, Testbed, check_hosts
from mecsim.scenario.units import Seconds
from mecsim.support.exact import whole_weights
from mecsim.support.validation import Whole, Within

__all__ = [
    "Arrivals",
    "BlockTable",
    "BlockTimes",
    "Calibrated",
    "Capacity",
    "ConstantSize",
    "CsvTasks",
    "Deterministic",
    "Device",
    "DeviceGroup",
    "Dnn",
    "EdgeServer",
    "Energy",
    "ExponentialSize",
    "Failure",
    "Link",
    "ListedTasks",
    "LognormalSize",
    "Measurement",
    "Mmpp",
    "Movement",
    "Origin",
    "Poisson",
    "Radio",
    "RecordedTasks",
    "Repeat",
    "Reward",
    "Scenario",
    "Section",
    "ServerGroup",
    "SizeFactor",
    "Slotted",
    "TaskClass",
    "Testbed",
    "Uniform",
    "UniformRate",
    "UniformSize",
    "Wired",
]

_OF_ONE_CLASS: Final = ("dnn", "size_factor", "arrivals", "deadline", "drop_late", "retries")
"""Keys that describe the tasks where there is one class of them."""
_IDLE: Final = ("tasks", "deadline", "drop_late", "retries")
"""Keys of tasks that a scenario of one class does not hold where they change nothing."""

LONGEST_PATTERN: Final = 100_000
"""Most tasks of a pattern in which groups of devices take their turns."""

UNNAMED: Final = "scenario"
"""The label of a scenario that was read from no file."""


@dataclass(frozen=True)
class Origin:
    """Where a scenario was written. All are equal: scenarios compare by their values."""

    document: yaml_source.Document = dataclasses.field(compare=False)
    label: str = dataclasses.field(default=UNNAMED, compare=False)
    """The name of the file with its overrides."""

    def located(self, message: str) -> str:
        """Put file and line before a message that begins with the path of a key and a colon."""
        path = message.partition(": ")[0]
        keys = tuple(int(key) if key.isdecimal() else key for key in path.split("."))
        where = self.document.locate(keys)
        known = keys[0] in Scenario.model_fields
        return f"{where}: {message}" if known and where else message


class Scenario(Section):
    """A network, a DNN and its tasks, and the length of a run."""

    keys_of_files: ClassVar[tuple[str, ...]] = ("extends",)
    _origin: Origin = PrivateAttr(Origin(yaml_source.Document({})))

    description: str = ""
    """A text for people; it changes no result."""
    slots: Annotated[int, Within(1, 10_000_000), Whole] = 600
    """Number of slots in which tasks are released."""
    slot_length: Seconds = 1.0
    """Length of a slot in s."""
    decision_epoch: Literal["per_slot", "per_task"] = "per_slot"
    """Whether a scheduler decides for all tasks of a slot at once or for each task."""
    dnn: Dnn = Dnn(blocks=6)
    """The model that every task runs, cut into blocks."""
    size_factor: SizeFactor = ConstantSize()
    """The scale of a task's cycles and bits; its mean is 1."""
    arrivals: Arrivals = Slotted()
    """When tasks are released and by which devices."""
    deadline: Seconds | None = None
    """The time in s from the release of a task until its last block should have finished."""
    drop_late: bool = False
    """Whether a task is dropped where its next service would begin after its deadline."""
    retries: Retries = 0
    """How many times a task that is lost in a failure is placed again, before it fails."""
    tasks: Annotated[tuple[TaskClass, ...], Field(min_length=1, max_length=1000)] | None = None
    """Several classes of tasks, in place of one by dnn, size_factor, arrivals and deadline."""
    edge_servers: Servers = 4
    """N, the number of edge servers, or a list of groups of them."""
    edge_server: EdgeServer = EdgeServer()
    """The properties of the edge servers."""
    devices: Devices = 30
    """D, the number of devices, or a list of groups of them."""
    device: Device = Device()
    """The properties of the devices."""
    radio: Radio = Radio()
    """The radio channel between a device and its server."""
    wired: Wired = Wired()
    """The wired network between the servers."""
    energy: Energy = Energy()
    """The energy model of the devices."""
    reward: Reward = Reward()
    """The reward."""
    return_result: bool = False
    """Whether the result returns to the device, as part of the last block."""
    failures: tuple[Failure, ...] = ()
    """Failures of servers, devices and wired links; none by default."""
    mobility: tuple[Movement, ...] = ()
    """How devices move; all stand still by default."""
    measurement: Measurement = Measurement()
    """Which tasks are counted; all by default."""
    testbed: Testbed | None = None
    """How ``mecsim testbed`` runs the scenario; simulations do not depend on it."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        self._one_each("edge_server", self.edge_server, self.edge_servers)
        self._one_each("device", self.device, self.devices)
        self._groups_agree()
        self._check_classes()
        check_hosts(self.testbed, self.edge_servers, self.devices)
        self._check_overheads()
        for number, link in enumerate(self.wired.links or ()):
            keys, ends = ("wired", "links", number), set[int]()
            for key, end in (("from", link.source), ("to", link.target)):
                try:
                    ends.update(groups.numbers(self.edge_servers, end))
                except ValueError as error:
                    raise fault((*keys, key), f"joins server {error}") from error
            if len(ends) == 1:
                raise fault(keys, "joins a server with itself")
        warm_up, cool_down = self.measurement.warm_up, self.measurement.cool_down
        if warm_up + cool_down >= self.length_s:
            key = "warm_up" if warm_up >= cool_down else "cool_down"
            less = f"allowed: less than {self.length_s:g} s (slots × slot_length)"
            problem = f"leaves no task to count: {warm_up + cool_down:g} s are removed; {less}"
            raise fault(("measurement", key), problem)
        return self

    def _check_overheads(self) -> None:
        device_groups = () if isinstance(self.devices, int) else self.devices
        of_groups = {f"devices.{n}": each.rate for n, each in enumerate(device_groups)}
        of_links = {f"wired.links.{n}": each.rate for n, each in enumerate(self.wired.links or ())}
        for key, spec, rates in (
            ("radio", self.radio, {"radio": self.radio.rate} | of_groups),
            ("wired", self.wired, {"wired": self.wired.rate} | of_links),
        ):
            for where, rate in rates.items() if spec.overhead else ():
                if isinstance(rate, CsvSeries | MahimahiTrace | RateSteps):
                    problem = f"does not go with a rate over time ({where}.rate); allowed: 0"
                    raise fault((key, "overhead"), f"{problem}. Try: {key}.headers")
        if self.radio.overhead and self.radio.varies_within_transfers:
            problem = "does not go with radio.varies_within_transfers: true; allowed: 0"
            raise fault(("radio", "overhead"), f"{problem}. Try: radio.headers")

    def _check_classes(self) -> None:
        for number, each in enumerate(self.classes):
            if each.dnn.measured != self.measured:
                problem = f"{FORMULA} does not go with measured ones of other classes"
                raise fault(("tasks", number, "dnn", "service_times"), f"{problem}; measure all")
        check_drop_late(self.deadline, drop_late=self.drop_late)
        names = [each.name for each in self.classes]
        for number, each in enumerate(self.classes):
            keys: yaml_source.Keys = () if self.tasks is None else ("tasks", number)
            if each.retries and not any(failure.loses for failure in self.failures):
                problem = f"{each.retries} has no effect, since no failure loses tasks; allowed: 0"
                raise fault((*keys, "retries"), f"{problem}. Try: work: lost in failures")
            if each.name in names[:number]:
                first = names.index(each.name)
                raise fault((*keys, "name"), f"{each.name!r} is the name of tasks.{first} too")
            if (
                isinstance(each.arrivals, Mmpp)
                and min(each.arrivals.mean_dwell) < self._least_dwell
            ):
                least = f"allowed: at least {self._least_dwell:g} s (slot_length / 1000)"
                problem = f"has a dwell time of {min(each.arrivals.mean_dwell):g} s; {least}"
                raise fault((*keys, "arrivals", "mean_dwell"), problem)
            if each.devices is not None:
                self._check_weights(each.devices, (*keys, "devices"))

    def _check_weights(self, weights: Mapping[str, float], keys: yaml_source.Keys) -> None:
        groups = self._device_groups
        if not groups:
            raise fault(keys, "needs groups; give devices as a list of groups, or leave it out")
        for name in weights:
            if name not in groups:
                allowed = ", ".join(groups)
                raise fault((*keys, name), f"is no group of devices; allowed: {allowed}")
        if not any(weights.values()):
            raise fault(keys, "leaves the class without a device; allowed: a weight above 0")
        if (length := sum(whole_weights(list(weights.values())))) > LONGEST_PATTERN:
            problem = f"has weights whose pattern has {length:,} tasks"
            allowed = f"allowed: at most {LONGEST_PATTERN:,}; Try: rounder numbers"
            raise fault(keys, f"{problem}; {allowed}")

    @model_serializer(mode="wrap")
    def _without_idle(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a section that changes nothing: hashes are those of before it existed."""
        document: dict[str, Any] = handler(self)
        idle = [name for name in ("failures", "mobility") if not getattr(self, name)]
        if self.measurement == Measurement():
            idle.append("measurement")
        if self.testbed in (None, Testbed()):
            idle.append("testbed")
        if self.tasks is None:
            idle += [name for name in _IDLE if not getattr(self, name)]
        else:
            idle += _OF_ONE_CLASS
        for name in idle:
            document.pop(name, None)
        return document

    @property
    def classes(self) -> tuple[TaskClass, ...]:
        """The classes of tasks; one without a name where the scenario names none."""
        if self.tasks is not None:
            return self.tasks
        own = {name: getattr(self, name) for name in _OF_ONE_CLASS}
        return (TaskClass.model_construct(name="", priority="", devices=None, **own),)

    def weights_of(self, number: int) -> tuple[float, ...]:
        """Return the weight of every group of devices for a class; empty if all are equal."""
        weights = self.classes[number].devices
        if weights is None:
            return ()
        return tuple(weights.get(name, 0.0) for name in self._device_groups)

    @property
    def _device_groups(self) -> list[str]:
        return [] if isinstance(self.devices, int) else [group.name for group in self.devices]

    def of_class(self, number: int) -> Scenario:
        """Return the scenario with the tasks of one class only, in the form of one class."""
        if self.tasks is None:
            return self
        own = {name: getattr(self.tasks[number], name) for name in _OF_ONE_CLASS}
        return self.model_copy(update=own | {"tasks": None})

    @property
    def length_s(self) -> float:
        """When the last slot ends."""
        return self.slots * self.slot_length

    @property
    def counted_s(self) -> tuple[float, float]:
        """From when on and before when the tasks that count are released, without limit as inf."""
        cool_down = self.measurement.cool_down
        return self.measurement.warm_up, self.length_s - cool_down if cool_down else math.inf

    @property
    def _least_dwell(self) -> float:
        return self.slot_length / 1000

    @property
    def server_count(self) -> int:
        """N, the number of edge servers, of all groups together."""
        return groups.count(self.edge_servers)

    @property
    def device_count(self) -> int:
        """D, the number of devices, of all groups together."""
        return groups.count(self.devices)

    @staticmethod
    def _one_each(name: str, section: EdgeServer | Device, nodes: groups.Nodes) -> None:
        for key, values in (("capacity", section.capacity), ("positions", section.positions)):
            if not isinstance(values, tuple):
                continue
            if not isinstance(nodes, int):
                problem = "has one entry for each node, which groups do not take"
                raise fault((name, key), f"{problem}; give {key} in each group")
            if len(values) != nodes:
                raise fault((name, key), f"has {len(values)} entries; allowed: {nodes}, one each")

    def _groups_agree(self) -> None:
        lists = {"edge_servers": self.edge_servers, "devices": self.devices}
        found: dict[str, tuple[str, int]] = {}
        for key, nodes in lists.items():
            for number, group in enumerate(() if isinstance(nodes, int) else nodes):
                if group.name in found:
                    one = ".".join(map(str, found[group.name]))
                    problem = f"{group.name!r} is the name of {one} too; allowed: different names"
                    raise fault((key, number, "name"), problem)
                found[group.name] = key, number
            if groups.count(nodes) > (most := groups.MOST[key]):
                raise fault((key,), f"has {groups.count(nodes)} of them; allowed: {most} at most")
        servers = () if isinstance(self.edge_servers, int) else self.edge_servers
        if servers and not any(group.radio for group in servers):
            raise fault(("edge_servers",), "has no group with a radio; devices need one")
        for number, group in enumerate(() if isinstance(self.devices, int) else self.devices):
            self._device_group_agrees(("devices", number), group)
            self._type_agrees(("devices", number), group)
        for number, each in enumerate(servers):
            self._type_agrees(("edge_servers", number), each)

    def _type_agrees(self, keys: tuple[str, int], group: ServerGroup | DeviceGroup) -> None:
        """Refuse what has no effect next to the type of a group."""
        other, remedy = "type: formula", "name a measured type"
        idle: tuple[str, ...] = ("compute_power",)
        if not self.measured:
            other, remedy = f"dnn.service_times: {FORMULA}", "give dnn.service_times: measured"
            idle = "type", "compute_power"
        elif (name := self.type_of(group)) != FORMULA:
            other, remedy, idle = f"type: {name}", "give type: formula", ("capacity", "kappa")
        for key in idle:
            if getattr(group, key, None) is not None:
                problem = f"has no effect next to {other}"
                raise fault((*keys, key), f"{problem}; leave {key} out, or {remedy}")

    @property
    def measured(self) -> bool:
        """Whether service times are measured, at all nodes but those of type ``formula``."""
        return any(each.dnn.measured for each in self.classes)

    def type_of(self, group: ServerGroup | DeviceGroup) -> str | None:
        """Return the type of a group of nodes, None where it is missing."""
        return group.type or self.section_of(group).type if self.measured else FORMULA

    def section_of(self, group: ServerGroup | DeviceGroup) -> EdgeServer | Device:
        """Return the section of what a group does not give."""
        return self.edge_server if isinstance(group, ServerGroup) else self.device

    def _device_group_agrees(self, keys: tuple[str, int], group: DeviceGroup) -> None:
        if self.radio.rate is not None:
            for key in ("bandwidth", "fading"):
                if getattr(group, key) not in (None, "none"):
                    problem = "has no effect next to radio.rate; give a rate in the groups that"
                    raise fault((*keys, key), f"{problem} have one, and set radio.rate to null")
        servers = () if isinstance(self.edge_servers, int) else self.edge_servers
        allowed = [each.name for each in servers if each.radio]
        for row, name in enumerate(group.servers or ()):
            if name in (group.servers or ())[:row]:
                raise fault((*keys, "servers"), f"names {name!r} twice; allowed: each group once")
            if name not in allowed:
                known = ", ".join(allowed) or "none, for edge_servers is a number"
                problem = f"{name!r} is no group of servers with a radio; allowed: {known}"
                raise fault((*keys, "servers"), problem)

    @property
    def label(self) -> str:
        """Its name in results: that of its file with the overrides, as ``city (slots=2)``."""
        return self._origin.label

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Put file and line before input errors about a value of this scenario."""
        try:
            yield
        except InputError as error:
            raise type(error)(self._origin.located(str(error))) from error

    @contextmanager
    def in_class(self, number: int) -> Iterator[None]:
        """Put the key of a class of tasks before input errors that begin with one of its keys."""
        try:
            yield
        except InputError as error:
            prefix = "" if self.tasks is None else f"tasks.{number}."
            raise type(error)(f"{prefix}{error}") from error

    def canonical_json(self) -> str:
        """Return the scenario as JSON with all values in SI units and keys sorted."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)

    def sha256(self) -> str:
        """Return the hash of all but the description and the testbed, which change no result."""
        return self._sha256_with(description="")

    def sha256_of_slots(self) -> str:
        """Return the hash of all but the description, slots, what is counted and the testbed."""
        return self._sha256_with(description="", slots=1, measurement=Measurement())

    def _sha256_with(self, **changes: Any) -> str:
        matters = self.model_copy(update=changes | {"testbed": None}).canonical_json()
        return hashlib.sha256(matters.encode()).hexdigest()
