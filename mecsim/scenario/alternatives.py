"""Settings that leave others without effect, and what becomes of those.

A key without effect is refused. Only where it is inherited does the choice of the file that builds
on another one replace it, and likewise that of ``--set``. This is decided on plain data: a resolved
scenario has all keys, and nobody can tell which of them were given.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mecsim.scenario.document import FORMULA, Document, Keys, dotted, in_yaml, merge, value_of

TOPOLOGIES: Final = ("full_mesh", "ring", "star", "line", "tree", "grid", "explicit")


@dataclass(frozen=True)
class Choice:
    """A setting that leaves other keys without effect."""

    key: Keys
    """The key of the setting."""
    made: Callable[[Any], bool]
    """Whether values of a scenario make this choice."""
    idle: tuple[Keys, ...]
    """The keys without effect then."""
    remedy: str
    """How to give the idle keys an effect."""
    undone_by_child: bool = False
    """Whether an idle key in a file that builds on the choice undoes it."""
    tolerated: bool = False
    """Whether the keys may be given together: the idle ones are only checked against the key."""
    default: str = "full_mesh"
    """The choice that is made where the key is not given."""


def _given(*keys: str) -> Callable[[Any], bool]:
    return lambda values: value_of(values, keys) is not None


def _topology(values: Any) -> Any:
    return value_of(values, ("wired", "topology")) or "full_mesh"


def _topology_other_than(name: str) -> Callable[[Any], bool]:
    """Return whether there is another topology; a misspelt one has a message of its own."""
    others = [each for each in TOPOLOGIES if each != name]
    return lambda values: _topology(values) in others


def _all_links_give(name: str) -> Callable[[Any], bool]:
    def made(values: Any) -> bool:
        links = value_of(values, ("wired", "links"))
        return (
            _topology(values) == "explicit"
            and isinstance(links, list | tuple)
            and all(value_of(link, (name,)) is not None for link in links)
        )

    return made


def _groups(nodes: str, *keys: str) -> Callable[[Any], bool]:
    """Return whether there are groups of nodes, each of which gives one of the keys, if any."""

    def made(values: Any) -> bool:
        groups = value_of(values, (nodes,))
        return isinstance(groups, list | tuple) and (
            not keys or all(any(_gives(group, key) for key in keys) for group in groups)
        )

    return made


def _gives(group: Any, key: str) -> bool:
    value = value_of(group, (key,))
    return value is not None and value is not True  # ``radio: true`` is no choice


def _of_groups(nodes: str, idle: Keys, *keys: str) -> Choice:
    """Return that groups which all give one of the keys leave the one for all without effect."""
    return Choice((nodes,), _groups(nodes, *keys), (idle,), f"leave {keys[0]} out in a group")


def _by_formula(values: Any) -> bool:
    classes = value_of(values, ("tasks",))
    dnns = list(classes) if isinstance(classes, list | tuple) else [values]
    return all(value_of(each, ("dnn", "service_times")) in (None, FORMULA) for each in dnns)


def _shows_cycles(values: Any) -> bool:
    return isinstance(value_of(values, ("dnn", "service_times")), Mapping)


def _measures(*sections: str) -> Callable[[Any], bool]:
    """Return whether service times are measured at all nodes of these sections."""

    def made(values: Any) -> bool:
        types = {each for section in sections for each in _types(values, section)}
        return not _by_formula(values) and not {None, FORMULA} & types

    return made


def _types(values: Any, section: str) -> list[Any]:
    """Return the types of the servers or the devices: of each group, or of all."""
    of_all, nodes = value_of(values, (section, "type")), value_of(values, (f"{section}s",))
    groups = nodes if isinstance(nodes, list | tuple) else [{}]
    return [value_of(group, ("type",)) or of_all for group in groups]


def _all_walk(values: Any) -> bool:
    """Return whether all devices walk between waypoints, so that they start in its area."""
    moves, devices = value_of(values, ("mobility",)), value_of(values, ("devices",))
    entries = moves if isinstance(moves, list | tuple) else ()
    walks = [each for each in entries if value_of(each, ("speed",)) is not None]
    named = [value_of(each, ("devices",)) for each in walks]
    if any(each is None or each == "all" for each in named):
        return True
    lists = (each for each in named if isinstance(each, list | tuple))
    numbers = {n for each in lists for n in each if isinstance(n, int)}
    return isinstance(devices, int) and 0 < devices <= len(numbers) == 1 + max(numbers)


def _no_link_fails(values: Any) -> bool:
    failures = value_of(values, ("failures",))
    entries = failures if isinstance(failures, list | tuple) else ()
    return all(value_of(each, ("links",)) is None for each in entries)


def _is_table(values: Any) -> bool:
    return isinstance(value_of(values, ("dnn", "model")), Mapping)


CHOICES: Final = (
    Choice(
        ("tasks",),
        _given("tasks"),
        tuple(
            (name,)
            for name in ("dnn", "size_factor", "arrivals", "deadline", "drop_late", "retries")
        ),
        "set tasks to null",
        undone_by_child=True,
    ),
    Choice(
        ("radio", "rate"),
        _given("radio", "rate"),
        tuple(
            ("radio", name)
            for name in (
                "bandwidth",
                "noise_density",
                "path_loss_intercept_db",
                "path_loss_slope_db",
                "fading",
            )
        ),
        "set radio.rate to null",
        undone_by_child=True,
    ),
    Choice(
        ("device", "positions"),
        _given("device", "positions"),
        (("device", "distance"),),
        "set device.positions to null",
        undone_by_child=True,
    ),
    Choice(
        ("mobility",),
        _all_walk,
        (("device", "distance"),),
        "name the devices that walk in mobility",
    ),
    Choice(
        ("edge_server", "positions"),
        _given("edge_server", "positions"),
        (("edge_server", "spacing"),),
        "set edge_server.positions to null",
        undone_by_child=True,
    ),
    *(
        Choice((nodes,), _groups(nodes), ((section, "positions"),), "give positions in groups")
        for nodes, section in (("edge_servers", "edge_server"), ("devices", "device"))
    ),
    *(_of_groups("devices", ("device", key), key) for key in ("capacity", "battery")),
    *(_of_groups("edge_servers", ("edge_server", key), key) for key in ("capacity", "cores")),
    _of_groups("edge_servers", ("edge_server", "coverage_radius"), "coverage_radius", "radio"),
    _of_groups("edge_servers", ("edge_server", "spacing"), "positions", "radio"),
    _of_groups("devices", ("device", "distance"), "distance", "positions"),
    _of_groups("devices", ("radio", "transmit_power"), "transmit_power"),
    _of_groups("devices", ("energy", "kappa"), "kappa"),
    _of_groups("devices", ("radio", "bandwidth"), "bandwidth", "rate"),
    _of_groups("devices", ("radio", "fading"), "fading", "rate"),
    *(
        _of_groups("devices", ("radio", key), "rate")
        for key in ("rate", "noise_density", "path_loss_intercept_db", "path_loss_slope_db")
    ),
    Choice(
        ("wired", "topology"),
        _topology_other_than("tree"),
        (("wired", "branching"),),
        "give wired.topology: tree",
    ),
    Choice(
        ("wired", "topology"),
        _topology_other_than("explicit"),
        (("wired", "links"),),
        "give wired.topology: explicit",
    ),
    *(
        Choice(
            ("wired", "links"),
            _all_links_give(name),
            (("wired", name),),
            f"leave {name} out in a link",
        )
        for name in ("rate", "latency")
    ),
    Choice(
        ("failures",),
        _no_link_fails,
        (("wired", "reroute"),),
        "let links fail",
        default="none of links",
    ),
    Choice(
        ("arrivals", "process"),
        lambda values: value_of(values, ("arrivals", "process")) == "trace",
        (("size_factor",),),
        "use another arrivals.process; recorded tasks have their own sizes",
    ),
    Choice(("dnn", "model"), _is_table, (("dnn", "cut"),), "name a model that can be cut"),
    Choice(
        ("dnn", "service_times"),
        _by_formula,
        (
            ("edge_server", "type"),
            ("device", "type"),
            ("device", "compute_power"),
            ("dnn", "model", "ms"),
            ("dnn", "model", "joules"),
        ),
        "give dnn.service_times: measured",
        default=FORMULA,
    ),
    Choice(
        ("dnn", "service_times"),
        _measures("edge_server"),
        (("edge_server", "capacity"),),
        "give edge_server.type: formula",
    ),
    Choice(
        ("dnn", "service_times"),
        _measures("device"),
        (("device", "capacity"), ("energy", "kappa")),
        "give device.type: formula",
    ),
    Choice(
        ("device", "type"),
        lambda values: value_of(values, ("device", "type")) == FORMULA,
        (("device", "compute_power"),),
        "name a measured type",
    ),
    Choice(
        ("dnn", "service_times"),
        lambda values: _measures("edge_server", "device")(values) and not _shows_cycles(values),
        (("dnn", "cycles_per_flop"),),
        "give a node type: formula",
    ),
    Choice(("dnn", "model"), _is_table, (("dnn", "blocks"),), "", tolerated=True),
    Choice(
        ("dnn", "cut"),
        lambda values: isinstance(value_of(values, ("dnn", "cut")), list | tuple),
        (("dnn", "blocks"),),
        "",
        tolerated=True,
    ),
)

_HARMLESS: Final[Mapping[Keys, Any]] = {
    ("radio", "fading"): "none",
    ("dnn", "cut"): "balanced",
    ("wired", "reroute"): True,
    ("size_factor",): {"distribution": "constant"},
}
"""Values that say what holds anyway."""


def inherit(base: Document, over: Document) -> Document:
    """Put a document over the one on which it builds; a choice replaces inherited alternatives."""
    preview = merge(base, over).values
    for choice in CHOICES:
        if over.value(choice.key) is not None and choice.made(preview):
            for keys in choice.idle:
                base.drop(keys)
        elif choice.undone_by_child and any(_matters(over, keys) for keys in choice.idle):
            base.drop(choice.key)
    return merge(base, over)


def apply_assigned(document: Document) -> None:
    """Let the choices that options made replace the alternatives in the file."""
    for choice in CHOICES:
        if document.is_assigned(choice.key) and choice.made(document.values):
            for keys in choice.idle:
                if not document.is_assigned(keys):
                    document.drop(keys)


def take_idle(document: Document) -> list[str]:
    """Remove the keys without effect from a document.

    Returns:
        A message about each of those that a file or an option gave.
    """
    found = []
    for choice in CHOICES:
        if choice.tolerated or not choice.made(document.values):
            continue
        for keys in choice.idle:
            if document.locate(keys) and _matters(document, keys):
                found.append(_message(document, choice, keys))
                document.drop(keys)
    return found


def without_idle(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a resolved scenario without the keys that have no effect."""
    document = Document(values)
    for choice in CHOICES:
        if not choice.tolerated and choice.made(values):
            for keys in choice.idle:
                document.drop(keys)
    return document.values


def _message(document: Document, choice: Choice, keys: Keys) -> str:
    name, key = dotted(keys), dotted(choice.key)
    value, other = document.value(keys), document.value(choice.key)
    shown = "" if isinstance(value, dict | list | tuple) else f"{in_yaml(reprlib.repr(value))} "
    other_key = key
    if other is None:
        other_key = f"{key}: {choice.default} (the default)"
    elif isinstance(other, str):
        other_key = f"{key}: {other}"
    place = f" ({document.locate(choice.key)})" if other is not None else ""
    return (
        f"{document.locate(keys)}: {name}: {shown}has no effect next to {other_key}{place}; "
        f"leave {name} out, or {choice.remedy}"
    )


def _matters(document: Document, keys: Keys) -> bool:
    value = document.value(keys)
    return value is not None and value != _HARMLESS.get(keys)
