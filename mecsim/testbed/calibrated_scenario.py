"""Puts fitted service times, headers and overheads into a scenario."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from mecsim.errors import MecsimError, ScenarioError
from mecsim.model.blocks import blocks_of
from mecsim.model.model import Model, resolve
from mecsim.model.nodes import device_groups, server_groups
from mecsim.scenario import yaml_source
from mecsim.scenario.alternatives import without_idle
from mecsim.scenario.loading import validate
from mecsim.scenario.schema import BlockTable, Dnn, Scenario
from mecsim.scenario.testbed import Calibrated
from mecsim.support.arrays import Floats, Ints
from mecsim.support.validation import first_fault
from mecsim.testbed.fits import TransferFit

_NAMING: Final = ("model", "cut", "blocks", "live_tensors")
"""Keys of a DNN that give its blocks."""
_log = logging.getLogger(__name__)
_OF_FORMULA = ("capacity", "kappa", "compute_power")
"""Keys of a group that have no effect next to measured times and energies."""


@dataclass(frozen=True)
class NodeKind:
    """Nodes that have the same service times: a group, or all servers or devices without groups."""

    name: str
    """Name of the type of nodes in the calibrated scenario."""
    section: str
    """``edge_server`` or ``device``."""
    group: int | None
    """Number of the group in its list, None without groups."""
    nodes: Ints
    """Numbers of the nodes; shape (n,)."""

    def planned_s(self, model: Model) -> Floats:
        """Return the service time of each block at a node in the scenario; shape (B,)."""
        table, node = model.compute, self.nodes[0]
        return np.asarray(table.work[table.node_type[node]] / table.speed[node])

    def planned_j(self, model: Model) -> Floats:
        """Return the energy of each block at a node in the scenario in joules; shape (B,)."""
        table, node = model.compute, self.nodes[0]
        return np.asarray(table.energy_work[table.node_type[node]] * table.joules_per_work[node])


def node_kinds(model: Model) -> list[NodeKind]:
    """Return the kinds of nodes of a scenario: servers, then devices.

    Raises:
        ScenarioError: Nodes of a group have different service times.
    """
    scenario, found, first = model.scenario, list[NodeKind](), 0
    for section, groups in (
        ("edge_server", server_groups(scenario)),
        ("device", device_groups(scenario)),
    ):
        for number, group in enumerate(groups):
            nodes = np.arange(first, first + group.count)
            first += group.count
            name = group.name or section.removeprefix("edge_")
            while name in [each.name for each in found]:
                name += "_"
            kind = NodeKind(name, section, number if group.name else None, nodes)
            if np.ptp(model.compute.speed[nodes]) != 0:
                key = f"{section}s.{number}" if group.name else section
                raise ScenarioError(
                    f"{key}.capacity: differs among {group.count} nodes, and a calibration gives "
                    "the nodes of a group one service time. Try: groups of equal nodes"
                )
            found.append(kind)
    return found


def calibrated_scenario(
    model: Model,
    kinds: Sequence[NodeKind],
    seconds: Floats,
    transfers: Mapping[str, TransferFit | None],
    calibrated: Calibrated,
    dnns: Sequence[Any] = (),
) -> Scenario:
    """Return the scenario of a model with fitted numbers.

    Args:
        model: The scenario.
        kinds: The K kinds of its nodes.
        seconds: Service time of each block of all classes at each kind; shape (K, B).
        transfers: Fits by section: ``radio``, ``wired``.
        calibrated: Where the numbers come from.
        dnns: The keys that named the DNN of each class, as :func:`keys_of_dnns` returns them.

    Raises:
        ScenarioError: The numbers make no valid scenario.
    """
    document = model.scenario.model_dump(mode="json")
    joules = _joules(model, kinds, seconds)
    for number in range(len(model.classes)):
        rows = slice(*model.first_block[number : number + 2].tolist())
        holder = document if model.scenario.tasks is None else document["tasks"][number]
        named = _named(model, number, dnns[number]) if number < len(dnns) else None
        if named is not None:
            holder["dnn"] |= named
        times = _times(model, kinds, 1000.0 * seconds[:, rows], joules[:, rows])
        if isinstance(holder["dnn"]["model"], str):
            holder["dnn"]["service_times"] = times
        else:
            holder["dnn"]["service_times"] = "measured"
            holder["dnn"]["model"] |= {key: times[key] for key in ("ms", "joules")}
    for kind in kinds:
        _set_type(document, kind)
    for section, fit in transfers.items():
        if fit is not None:
            document[section] |= {
                "headers": fit.headers.value,
                "overhead": fit.overhead_s.value,
            }
    document["testbed"] = {
        **(document.get("testbed") or {}),
        "calibrated": calibrated.model_dump(mode="json"),
    }
    found = validate(
        yaml_source.Document(without_idle(document)), f"{model.scenario.label} calibrated"
    )
    resolve(found, model.seed)
    return found


def _joules(model: Model, kinds: Sequence[NodeKind], seconds: Floats) -> Floats:
    """Return the energy of blocks, in proportion to the service times; shape (K, B)."""
    found = np.zeros_like(seconds)
    for row, kind in enumerate(kinds):
        planned_s = kind.planned_s(model)
        ratio = np.divide(seconds[row], planned_s, np.ones_like(planned_s), where=planned_s > 0)
        found[row] = kind.planned_j(model) * ratio
    return found


def _times(model: Model, kinds: Sequence[NodeKind], ms: Floats, joules: Floats) -> dict[str, Any]:
    """Return the keys of :class:`mecsim.scenario.schema.BlockTimes`; ms and joules: (K, M)."""
    found = {
        "ms": {kind.name: each.tolist() for kind, each in zip(kinds, ms, strict=True)},
        "joules": {
            kind.name: each.tolist()
            for kind, each in zip(kinds, joules, strict=True)
            if kind.section == "device"
        },
    }
    return found if model.shows_cycles else {**found, "features": "compute_s"}


def keys_of_dnns(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the keys that name and cut the DNN of each class, for the trace of a testbed.

    Where a model is a file of the user, the scenario in the trace has the table of its blocks.
    """
    found = [each.dnn.model_dump(mode="json", include=set(_NAMING)) for each in scenario.classes]
    for keys in found:
        if str(keys["model"]).endswith(".json"):
            keys["model"] = str(Path(keys["model"]).absolute())
    return found


def _named(model: Model, number: int, keys: Any) -> dict[str, Any] | None:
    """Return keys that name a DNN of which the scenario has a table, if they give its blocks."""
    own = model.scenario.of_class(number)
    if not isinstance(own.dnn.model, BlockTable):
        return None
    try:
        dnn = Dnn.model_validate(dict.fromkeys(_NAMING) | dict(keys))
        blocks = blocks_of(own.model_copy(update={"dnn": dnn}))
        for key in ("flops", "parameter_bytes", "input_bits", "output_bits"):
            if getattr(own.dnn.model, key) not in (None, getattr(blocks, key)):
                raise ScenarioError(f"{dnn.model} has other {key} now")
    except (MecsimError, ValidationError, ValueError, TypeError) as error:
        problem = first_fault(error) if isinstance(error, ValidationError) else error
        _log.warning(
            "%s: the blocks of the DNN stay a table, which no testbed computes: %s",
            own.label,
            problem,
        )
        return None
    return dnn.model_dump(mode="json", include=set(_NAMING))


def _set_type(document: dict[str, Any], kind: NodeKind) -> None:
    """Give nodes their type, and take away what has no effect next to it."""
    if kind.group is None:
        document[kind.section]["type"] = kind.name
    else:
        group = document[f"{kind.section}s"][kind.group]
        group["type"] = kind.name
        for key in _OF_FORMULA:
            group.pop(key, None)
    document[kind.section].pop("compute_power", None)
