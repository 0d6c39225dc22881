"""Readable labels of scenario keys and metrics, with their units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

from pydantic import BaseModel

from mecsim.scenario import groups, units
from mecsim.scenario.schema import Scenario
from mecsim.simulation.metrics import METRICS
from mecsim.study.panel import is_quantity, unit

Names: TypeAlias = Mapping[str, str]
"""Name in a comparison (scheduler, scenario, metric, swept key) to the name in a figure."""
AS_THEY_ARE: Final[Names] = MappingProxyType({})
"""No other names."""

KEYS: Final = {
    "slots": "number of slots",
    "slot_length": "slot length",
    "decision_epoch": "decision epoch",
    "devices": "number of devices",
    "device.capacity": "device capacity",
    "device.battery": "battery capacity",
    "edge_servers": "number of edge servers",
    "edge_server.capacity": "edge server capacity",
    "edge_server.cores": "cores per edge server",
    "edge_server.coverage_radius": "coverage radius",
    "edge_server.spacing": "distance between edge servers",
    "dnn.model": "DNN",
    "dnn.blocks": "number of blocks",
    "dnn.cycles_per_flop": "cycles per FLOP",
    "dnn.max_tolerated_delay": "tolerated delay of a block",
    "size_factor.distribution": "distribution of the task size",
    "size_factor.sigma": "standard deviation of the log task size",
    "arrivals.process": "arrival process",
    "arrivals.rate": "task arrival rate",
    "radio.bandwidth": "channel bandwidth",
    "radio.transmit_power": "transmit power",
    "radio.noise_density": "noise power density",
    "radio.path_loss_intercept_db": "path loss at 1 km",
    "radio.path_loss_slope_db": "path loss slope",
    "radio.fading": "fading",
    "radio.rate": "radio rate",
    "wired.topology": "topology of the wired links",
    "wired.rate": "link rate",
    "wired.latency": "link latency",
    "wired.branching": "children per server",
    "energy.kappa": "effective capacitance κ",
    "reward.beta": "deadline penalty weight β",
    "reward.aggregation": "reward aggregation",
    "evaluated_on": "setting",
}
"""Scenario keys to the labels of their axes; other keys are their own labels."""
_UNITS: Final = {
    "arrivals.rate": "tasks/slot",
    "radio.path_loss_intercept_db": "dB",
    "radio.path_loss_slope_db": "dB/decade",
}
"""Units that are not in the schema, as no other unit can be written there."""
SHARES: Final = frozenset({"miss_ratio", "deadline_miss_ratio"})
"""Metrics from 0 to 1, shown in percent."""


def metric_axis(metric: str, names: Names = AS_THEY_ARE) -> str:
    """Return the label of a metric with its unit.

    >>> metric_axis("miss_ratio"), metric_axis("energy_J", {"energy_J": "energy"})
    ('deadline-miss ratio (%)', 'energy (J)')
    """
    found = METRICS[metric]._replace(label=names.get(metric, METRICS[metric].label))
    return found._replace(unit="%").axis if metric in SHARES else found.axis


def metric_factor(metric: str) -> float:
    """Return the factor from a metric to the unit of its axis."""
    return 100.0 if metric in SHARES else 1.0


def key_label(key: str, names: Names = AS_THEY_ARE) -> str:
    """Return the label of a scenario key, without unit.

    >>> key_label("wired.rate"), key_label("devices.phone.battery")
    ('link rate', 'battery capacity of phone')
    """
    return names.get(key) or KEYS.get(key) or _label_in_group(key)


def _label_in_group(key: str) -> str:
    """Return the label of a key of a group: that of the key for all nodes, and the group."""
    nodes, _, rest = key.partition(".")
    group, _, own = rest.partition(".")
    sections = {"devices": ("device", "radio", "energy"), "edge_servers": ("edge_server",)}
    same = [f"{section}.{own}" for section in sections.get(nodes, ())]
    labels = [KEYS[nodes]] if same and own == "count" else [KEYS[k] for k in same if k in KEYS]
    return f"{labels[0]} of {group}" if labels else key


def key_unit(key: str) -> str:
    """Return the SI unit of the numbers of a scenario key; an empty text for none.

    >>> key_unit("radio.rate"), key_unit("devices.phone.battery"), key_unit("no.such")
    ('bit/s', 'J', '')
    """
    return _UNITS.get(key) or _unit_in(Scenario, key.split("."))


def _unit_in(model: type[BaseModel], names: Sequence[str]) -> str:
    field = model.model_fields.get(names[0])
    if field is None:
        return ""
    found = [*field.metadata, *_parts(field.annotation)]
    if len(names) == 1:
        return next((each.unit for each in found if isinstance(each, units.Unit)), "")
    models = [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]
    in_groups = names[0] in groups.MOST and len(names) > 2  # by the name or number of a group
    rest = names[2:] if in_groups else names[1:]
    return next(filter(None, (_unit_in(each, rest) for each in models)), "")


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation, and the parts of unions and ``Annotated`` in it."""
    yield annotation
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield from _parts(part)


def key_axis(key: str, values: Sequence[Any], names: Names = AS_THEY_ARE) -> tuple[str, list[Any]]:
    """Return the label of a swept key with its unit, and the values on its axis.

    Values in different units of one dimension are converted to the first of these units.

    >>> key_axis("wired.rate", ["800 kbit/s", "2 Mbit/s"])
    ('link rate (kbit/s)', [800.0, 2000.0])
    >>> key_axis("arrivals.rate", [30, 60])
    ('task arrival rate (tasks/slot)', [30, 60])
    """
    label, own = key_label(key, names), key_unit(key)
    if not all(map(is_quantity, values)) or not own:
        return label, list(values)
    written = list(dict.fromkeys(map(unit, values)))
    if len(written) == 1:
        return f"{label} ({written[0] or own})", list(values)
    shown = next(filter(None, written))
    try:
        factor = units.parse(f"1 {shown}", own)
        numbers = [_in_unit(each, own, shown, factor) for each in values]
    except (ValueError, KeyError):  # units of different kinds
        return label, list(values)
    return f"{label} ({shown})", numbers


def _in_unit(value: Any, own: str, shown: str, factor: float) -> float:
    if shown.startswith("dB"):
        raise ValueError("a logarithmic unit has no factor")
    number = units.parse(value, own) if isinstance(value, str) else float(value)
    return float(f"{number / factor:.12g}")
