"""The model: a scenario resolved to read-only arrays in SI units, for kernels and schedulers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from mecsim.dnn import cuts
from mecsim.errors import ScenarioError
from mecsim.model import paths, topology
from mecsim.model.blocks import blocks_of, deadlines
from mecsim.model.calendars import NO_CALENDARS, Calendars
from mecsim.model.channel import Channel
from mecsim.model.compute_table import ComputeTable, compute_table
from mecsim.model.dealing import Dealing
from mecsim.model.listed_tasks import check_listed
from mecsim.model.mobility import Mobility
from mecsim.model.node_types import NodeType, node_types
from mecsim.model.nodes import Nodes
from mecsim.model.over_time import NodeGroups, Series, followers, with_nominal, written_out
from mecsim.model.random_streams import MAX_SEED
from mecsim.model.resources import KINDS as KINDS
from mecsim.model.resources import Resources
from mecsim.model.routes import route_tables
from mecsim.model.slot_rates import RadioDraws, SlotRates
from mecsim.model.task_class import TaskClass
from mecsim.model.timetable import failing_links, timetable
from mecsim.model.topology import Links
from mecsim.scenario import groups
from mecsim.scenario.schema import BlockTable, BlockTimes, Dnn, Scenario
from mecsim.scenario.yaml_source import Keys
from mecsim.support.arrays import Bools, Floats, Ints, read_only

_BYTES_OF_A_RATE: Final = 48
"""Bytes that the rate of a device in a slot takes: in the model, its calendars and the kernel."""


@dataclass(frozen=True)
class Model:
    """A scenario resolved under one seed: N servers, D devices, L links, R resources, C classes.

    Arrays over blocks hold the blocks of all classes, class after class: B in all, M of one class.
    """

    scenario: Scenario
    """The description from which it was resolved."""
    seed: int
    """The seed of all random streams."""
    classes: tuple[TaskClass, ...]
    """The classes of the tasks; length C."""
    block_names: tuple[str, ...]
    """A name for each block; length B."""
    cycles: Floats
    """c_m, cycles of each block for a task of size factor 1; NaN where unknown; shape (B,)."""
    parameter_bytes: Floats
    """d_m, bytes of each block's parameters; shape (B,)."""
    input_bits: Floats
    """I_m, bits of each block's input for a task of size factor 1; shape (B,)."""
    result_bits: Floats
    """Bits of the result of a task of size factor 1 of each class; shape (C,)."""
    tolerated_s: Floats
    """τ_m, the deadline of each block in seconds; shape (B,)."""
    node_types: tuple[NodeType, ...]
    """Where service times come from."""
    node_type: Ints
    """Type of each server and then of each device, an index into ``node_types``; shape (N + D,)."""
    server_hz: Floats
    """F_n, cycles per second of each core of every server; NaN where service times are measured;
    shape (N,)."""
    cores: Ints
    """Cores of every server; shape (N,)."""
    radio: Bools
    """Whether a server has a radio, so that devices can be associated with it; shape (N,)."""
    server_xy: Floats
    """Position of every server in metres; shape (N, 2)."""
    server_group: Ints
    """Group of every server, 0 where there are no groups; shape (N,)."""
    server_groups: tuple[str, ...]
    """Names of the groups of servers; empty where there are none."""
    device_hz: Floats
    """f_d, cycles per second of every device; NaN where service times are measured; shape (D,)."""
    battery_j: Floats
    """Energy of every device at the start in joules, infinite where unlimited; shape (D,)."""
    kappa: Floats
    """κ of every device, its effective capacitance (Eq. 4); shape (D,)."""
    compute_power_w: Floats
    """Power of every device that computes, where its energy was not measured but its service times
    were; NaN elsewhere; shape (D,)."""
    device_xy: Floats
    """Position of every device at the start in metres; shape (D, 2)."""
    device_group: Ints
    """Group of every device, 0 where there are no groups; shape (D,)."""
    device_groups: tuple[str, ...]
    """Names of the groups of devices; empty where there are none."""
    channel: Channel
    """The radio of every device."""
    serving_server: Ints
    """The server (0-based) with which each device is associated at the start; shape (D,)."""
    gain: Floats
    """Path gain of each device to its server at the start; shape (D,)."""
    links: Links
    """The directed wired links."""
    next_link: Ints
    """Route tables, see :func:`mecsim.model.routes.next_links`; shape (K, N, N)."""
    route: Ints
    """The route table of each block's input and, last, of the result, class after class: those of
    class c begin at ``first_block[c] + c``; shape (B + C,)."""
    nominal: Scenario
    """The scenario with the nominal value of every series in its place."""
    series: tuple[Series, ...] = ()
    """Rates and capacities over time, and the resources that follow them."""
    slot_rates: SlotRates | None = None
    """Radio rates of all slots, where those of transfers under way vary; else they are drawn when
    the workload is."""
    mobility: Mobility | None = None
    """Servers of the devices over time; None if all devices stand still."""
    calendars: Calendars = NO_CALENDARS
    """Rates and outages of the resources over time."""
    failing_links: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Numbers of the links that data go around while they are down, in order."""

    @property
    def servers(self) -> int:
        """N, the number of edge servers."""
        return len(self.server_hz)

    @property
    def devices(self) -> int:
        """D, the number of devices."""
        return len(self.device_hz)

    @property
    def blocks(self) -> int:
        """M, the number of blocks of a task; of the class with most blocks where they differ."""
        return max(each.blocks for each in self.classes)

    @cached_property
    def first_block(self) -> Ints:
        """Row of the first block of every class, and B; shape (C + 1,)."""
        return read_only(np.cumsum([0, *(each.blocks for each in self.classes)]))

    @property
    def power_w(self) -> Floats:
        """p, the transmit power of every device in watts; shape (D,)."""
        return self.channel.power_w

    @cached_property
    def metered(self) -> bool:
        """Whether any device has a limited battery."""
        return bool(np.isfinite(self.battery_j).any())

    @cached_property
    def dealing(self) -> Dealing:
        """Which devices release the tasks of the class, where there is one."""
        return Dealing(self.device_group, self.classes[0].weights)

    @cached_property
    def drop_after_s(self) -> Floats:
        """The time after which tasks of each class are dropped, infinite where they are not.

        Shape (C,), or (0,) if no class drops tasks.
        """
        after = [each.deadline_s if each.drop_late else math.inf for each in self.classes]
        return np.array(after if any(each.drop_late for each in self.classes) else [])

    @cached_property
    def retries(self) -> Ints:
        """How many times a lost task of each class is placed again.

        Shape (C,), or (0,) if lost tasks of no class are.
        """
        each = np.array([each.retries for each in self.classes])
        return each if each.any() else each[:0]

    def of_class(self, number: int) -> Model:
        """Return the model with one of its classes of tasks, as if there were no other."""
        return self._of_classes[number]

    @cached_property
    def _of_classes(self) -> list[Model]:
        if self.scenario.tasks is None:
            return [self]
        return [self._only(each) for each in self.classes]

    def _only(self, task_class: TaskClass) -> Model:
        number = task_class.number
        rows = slice(*self.first_block[number : number + 2].tolist())
        blocks = ("block_names", "cycles", "parameter_bytes", "input_bits", "tolerated_s")
        moved = slice(rows.start + number, rows.stop + number + 1)
        model = replace(
            self,
            scenario=self.scenario.of_class(number),
            nominal=self.nominal.of_class(number),
            classes=(task_class,),
            node_types=tuple(each.of_blocks(rows) for each in self.node_types),
            result_bits=self.result_bits[number : number + 1],
            route=self.route[moved],
            **{name: getattr(self, name)[rows] for name in blocks},
        )
        return _frozen(model)

    @cached_property
    def radio_bps(self) -> Floats:
        """Nominal radio rate of the devices whose rate follows a series, NaN of all others.

        Shape (D,), or (0,) if no device follows one.
        """
        rates = np.full(self.devices, np.nan)
        for devices, steps in self.radio_series():
            rates[devices] = steps.nominal
        return read_only(rates if not np.isnan(rates).all() else np.empty(0))

    def radio_series(self) -> Iterator[Series]:
        """Yield the series of radio rates, with the numbers of the devices that follow them."""
        for resources, steps in self.series:
            devices = resources - self.resources.uplink
            devices = devices[(devices >= 0) & (devices < self.devices)]
            if len(devices):
                yield Series(devices, steps)

    @cached_property
    def radio_draws(self) -> RadioDraws:
        """What radio rates follow from, without series."""
        return RadioDraws(self.seed, self.channel, self.gain, self.mobility)

    @cached_property
    def resources(self) -> Resources:
        """The numbers of the queued resources."""
        return Resources(self.servers, self.devices, len(self.links))

    @cached_property
    def speed(self) -> Floats:
        """Work or bits per second of every resource, NaN for the radio; shape (R,)."""
        radio = np.full(2 * self.devices, np.nan)
        return read_only(np.concatenate([self.compute.speed, radio, self.links.rate_bps]))

    @cached_property
    def nodes(self) -> Nodes:
        """The servers and devices, from which another seed draws."""
        return Nodes(self.nominal)

    @cached_property
    def compute(self) -> ComputeTable:
        """Service times and energies of blocks at servers and devices."""
        table = compute_table(
            self.node_types,
            self.node_type,
            self.cycles,
            self.server_hz,
            self.device_hz,
            self.kappa,
            self.compute_power_w,
        )
        for value in vars(table).values():
            _freeze(value)
        return table

    @property
    def measured(self) -> bool:
        """Whether the service times of any nodes are measured."""
        return any(each.seconds is not None for each in self.node_types)

    @property
    def shows_cycles(self) -> bool:
        """Whether features have the cycles of blocks, and not their measured times."""
        times = [each.dnn.service_times for each in self.scenario.classes]
        return not self.measured or all(
            isinstance(each, BlockTimes) and each.features == "cycles" for each in times
        )

    @cached_property
    def capacity(self) -> Ints:
        """Parallel servers of every resource: cores, or 1; shape (R,)."""
        capacity = np.ones(len(self.resources), dtype=np.int64)
        capacity[: self.servers] = self.cores
        return read_only(capacity)

    def block_table(self) -> list[dict[str, Any]]:
        """Return one row for each block, with d_m and I_m, for tables.

        Work is c_m where nodes are by formula, and ``ms`` by measured type. With several classes of
        tasks, a row names its class.
        """
        if len(self.classes) > 1:
            return [
                {"class": each.name} | row
                for each in self.classes
                for row in self.of_class(each.number).block_table()
            ]
        measured = {each.name: each.seconds for each in self.node_types if each.seconds is not None}
        rows = cuts.Blocks(
            names=self.block_names,
            flops=tuple(self.cycles.tolist()),
            parameter_bytes=tuple(self.parameter_bytes.tolist()),
            input_bits=tuple(self.input_bits.tolist()),
            output_bits=float(self.result_bits[-1]),
            cuts=(),
            service_ms={name: tuple((1000.0 * of).tolist()) for name, of in measured.items()},
        ).table()
        for row in rows if len(measured) == len(self.node_types) else ():
            del row["cycles"]
        return rows

    def resource_names(self) -> list[str]:
        """Return the names of the resources, in the order of their numbers; length R."""
        servers, devices = self.server_names(), self.device_names()
        names = [f"{server}.cpu" for server in servers]
        for part in ("cpu", "uplink", "downlink"):
            names += [f"{device}.{part}" for device in devices]
        ends = zip(self.links.source.tolist(), self.links.target.tolist(), strict=True)
        return names + [f"{servers[i]}-{servers[j]}" for i, j in ends]

    def server_names(self, word: str = "es") -> list[str]:
        """Return the names of the servers: es1, or rack.1 and cloud in groups; length N."""
        return groups.names(self.scenario.edge_servers, word)

    def device_names(self, word: str = "device") -> list[str]:
        """Return the names of the devices: device0, or phone.1 in groups; length D."""
        return groups.names(self.scenario.devices, word, 0)


def resolve(scenario: Scenario, seed: int = 0) -> Model:
    """Turn a scenario into arrays.

    Args:
        scenario: A valid scenario.
        seed: Seed of positions, capacities and everything that is random during a run.

    Returns:
        The model; its arrays are read-only.

    Raises:
        ScenarioError: If values of the scenario do not fit together, or need too much memory.
        ProfileError: If the DNN is unknown or cannot be cut as asked.

    Example:
        >>> model = resolve(Scenario.model_validate({"edge_servers": 2, "dnn": {"blocks": 3}}))
        >>> model.server_hz, model.cycles.shape
        (array([1.5e+10, 1.5e+10]), (3,))
    """
    _check_seed(seed)
    with scenario.locating():
        return _resolve(scenario, seed)


def reseeded(model: Model, seed: int) -> Model:
    """Resolve a model's scenario under another seed, faster than :func:`resolve`.

    Args:
        model: The scenario, resolved under any seed.
        seed: The new seed.

    Returns:
        A model equal to ``resolve(model.scenario, seed)``.

    Raises:
        ScenarioError: As :func:`resolve`.
    """
    _check_seed(seed)
    with model.scenario.locating():
        drawn, spec = model.nodes.drawn(seed), model.scenario
        made = replace(model, seed=seed, slot_rates=None, **drawn)
        if spec.failures or spec.mobility or spec.radio.varies_within_transfers:
            made = _timed(made)
    vars(made).update((name, getattr(model, name)) for name in _SEEDLESS)
    for name in drawn:
        _freeze(getattr(made, name))
    return made


_SEEDLESS: Final = ("capacity", "drop_after_s", "first_block", "nodes", "radio_bps", "resources")
"""Properties of a model that are computed once and that no seed changes."""


def with_slot_rates(model: Model, rate_bps: Floats) -> Model:
    """Return a model in which transfers under way follow given radio rates, as recorded ones.

    Args:
        model: The model.
        rate_bps: Rate of every device in every slot; shape (slots, D). Devices whose rate follows a
            series keep it.
    """
    changes = model.radio_draws.vary | (rate_bps != rate_bps[0]).any(axis=0)
    for devices, _ in model.radio_series():
        changes[devices] = False
    return _timed(model, _slot_rates(rate_bps, changes))


def _timed(model: Model, slot_rates: SlotRates | None = None) -> Model:
    """Return a model with the calendars of its seed, and of the slots' rates where they matter."""
    scenario, draws = model.scenario, model.radio_draws
    if slot_rates is None and scenario.radio.varies_within_transfers:
        (rate_bps,) = draws.rates([range(scenario.slots)])
        slot_rates = _slot_rates(rate_bps, draws.vary) if len(rate_bps) > 1 else None
    parts = model.resources, model.links, model.series, model.mobility, slot_rates
    calendars = timetable(scenario, model.seed, *parts)
    return replace(model, calendars=calendars, slot_rates=slot_rates)


def _slot_rates(rate_bps: Floats, changes: Bools) -> SlotRates:
    return SlotRates(read_only(rate_bps), read_only(np.flatnonzero(changes)))


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise ScenarioError(f"seed: {seed} should be from 0 to {MAX_SEED}")


def _resolve(described: Scenario, seed: int) -> Model:
    scenario, over_time = with_nominal(described)
    _check_memory(scenario)
    check_listed(scenario)
    work = [_work_of(scenario, number) for number in range(len(scenario.classes))]
    nodes = Nodes(scenario)
    types, node_type = node_types(scenario, [blocks for blocks, _ in work])
    links = topology.wired_links(scenario.wired, scenario.edge_servers)
    moved = [float(bits) for each, _ in work for bits in (*each.input_bits, each.output_bits)]
    next_link, route = route_tables(links, scenario.server_count, np.array(moved))
    model = Model(
        **nodes.given(),
        **nodes.drawn(seed),
        scenario=described,
        nominal=scenario,
        seed=seed,
        classes=tuple(_classes(scenario, [len(blocks) for blocks, _ in work])),
        node_types=types,
        node_type=node_type,
        block_names=tuple(name for blocks, _ in work for name in blocks.names),
        cycles=np.concatenate(
            [
                np.array(blocks.flops, dtype=np.float64) * each.dnn.cycles_per_flop
                for (blocks, _), each in zip(work, scenario.classes, strict=True)
            ]
        ),
        parameter_bytes=_joined(blocks.parameter_bytes for blocks, _ in work),
        input_bits=_joined(blocks.input_bits for blocks, _ in work),
        result_bits=np.array([blocks.output_bits for blocks, _ in work], dtype=np.float64),
        tolerated_s=_joined(tolerated_s for _, tolerated_s in work),
        links=links,
        next_link=next_link,
        route=route,
    )
    series = tuple(Series(_followers(model, keys), steps) for keys, steps in over_time.items())
    failing = failing_links(scenario, model.resources, links)
    return _frozen(_timed(replace(model, series=series, failing_links=failing)))


def _followers(model: Model, keys: Keys) -> Ints:
    """Return the numbers of the resources that follow the series at some keys."""
    node_groups = NodeGroups(model.server_group, model.device_group)
    entry = topology.link_entries(model.nominal.wired, model.nominal.edge_servers, model.links)
    return followers(keys, model.nominal, model.resources, node_groups, entry)


def _work_of(scenario: Scenario, number: int) -> tuple[cuts.Blocks, Floats]:
    """Return the blocks of a class of tasks, and the deadline of each."""
    with scenario.in_class(number):
        described = scenario.of_class(number)
        blocks = blocks_of(described)
        return blocks, deadlines(described, len(blocks))


def _joined(parts: Iterable[Sequence[float] | Floats]) -> Floats:
    return np.concatenate([np.array(part, dtype=np.float64) for part in parts])


def _classes(scenario: Scenario, blocks: Sequence[int]) -> Iterator[TaskClass]:
    for number, each in enumerate(scenario.classes):
        yield TaskClass(
            number=number,
            name=each.name,
            blocks=blocks[number],
            deadline_s=math.inf if each.deadline is None else each.deadline,
            drop_late=each.drop_late,
            retries=each.retries,
            weights=scenario.weights_of(number),
            priority=each.priority,
        )


def _frozen(model: Model) -> Model:
    """Make all arrays of a model read-only."""
    for part in (model, model.links, model.channel):
        for value in vars(part).values():
            _freeze(value)
    for each in model.series:
        _freeze(each.resources)
    return model


def _freeze(value: Any) -> None:
    if isinstance(value, np.ndarray):
        read_only(value)


def _check_memory(scenario: Scenario) -> None:
    needed = _memory_needed(scenario)
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise ScenarioError(
            f"edge_servers: {scenario.server_count} with devices: {scenario.device_count}, "
            f"arrivals and wired.topology: {scenario.wired.topology} need about "
            f"{needed / 2**30:.1f} GiB; this machine has {available / 2**30:.1f} GiB"
        )
    rates = scenario.slots * scenario.device_count * scenario.radio.varies_within_transfers
    if rates * _BYTES_OF_A_RATE > available:
        raise ScenarioError(
            f"radio.varies_within_transfers: needs the rates of slots: {scenario.slots} and "
            f"devices: {scenario.device_count} at once, about "
            f"{rates * _BYTES_OF_A_RATE / 2**30:.1f} GiB; this machine has "
            f"{available / 2**30:.1f} GiB. Try: fewer slots"
        )


def _memory_needed(scenario: Scenario) -> int:
    """Estimate the bytes that a run needs.

    They are route tables (one, or one for each transfer where links differ, and one in the
    making), links, devices, and the hops of the tasks of one slot (2 kB for a block, measured).
    """
    n, wired = scenario.server_count, scenario.wired
    listed = topology.listed_links(wired, scenario.edge_servers)
    links = n * n if wired.topology == "full_mesh" else listed + 4 * n
    blocks = [_blocks_at_most(each.dnn) for each in scenario.classes]
    tables = sum(blocks) + 2 if wired.topology == "explicit" else 2
    rates = [
        max(getattr(each.arrivals, "rates", (getattr(each.arrivals, "rate", 0.0),)))
        for each in scenario.classes
    ]
    of_tasks = sum(int(2000 * rate * each) for rate, each in zip(rates, blocks, strict=True))
    return 8 * tables * n * n + 200 * links + 700 * scenario.device_count + of_tasks


def _blocks_at_most(dnn: Dnn) -> int:
    """Return the number of blocks of a DNN, or more than most have if it is not known yet."""
    return len(dnn.model.input_bits) if isinstance(dnn.model, BlockTable) else dnn.blocks or 32


def self_contained(scenario: Scenario) -> Scenario:
    """Return a scenario that needs no file: a user's own profiles, series and positions are in it.

    Raises:
        ProfileError: If the profile cannot be read or cut.
        ScenarioError: If a series or positions cannot be read.
    """
    scenario = paths.written_out(written_out(scenario))
    classes = scenario.classes
    written = [_with_table(scenario, number) for number in range(len(classes))]
    if all(dnn is each.dnn for dnn, each in zip(written, classes, strict=True)):
        return scenario
    if scenario.tasks is None:
        return scenario.model_copy(update={"dnn": written[0]})
    tasks = [
        each.model_copy(update={"dnn": dnn})
        for dnn, each in zip(written, scenario.tasks, strict=True)
    ]
    return scenario.model_copy(update={"tasks": tuple(tasks)})


def _with_table(scenario: Scenario, number: int) -> Dnn:
    """Return the DNN of a class of tasks, without the profile file of a user."""
    dnn = scenario.classes[number].dnn
    own = isinstance(dnn.model, str) and dnn.model.endswith(".json")
    if not own and not isinstance(dnn.service_times, tuple):
        return dnn
    with scenario.in_class(number):
        blocks = blocks_of(scenario.of_class(number))
    table = BlockTable(
        flops=blocks.flops,
        parameter_bytes=blocks.parameter_bytes,
        input_bits=blocks.input_bits,
        output_bits=blocks.output_bits,
        names=blocks.names,
        ms=blocks.service_ms if dnn.measured else None,
        joules=(blocks.joules or None) if dnn.measured else None,
    )
    return dnn.model_copy(
        update={
            "model": table,
            "cut": "balanced",
            "blocks": len(blocks),
            "live_tensors": 1,
            "service_times": "measured" if dnn.measured else dnn.service_times,
        }
    )
