"""A scenario that is run for real in a few seconds, and the processes of its run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import Placement

SCENARIO: Final[dict[str, Any]] = {
    "slots": 2,
    "slot_length": "1 s",
    "decision_epoch": "per_task",
    "dnn": {"model": "alexnet", "blocks": 2},
    "arrivals": {"process": "deterministic", "rate": 2},
    "edge_servers": 1,
    "edge_server": {"capacity": "0.2 GHz"},
    "devices": 1,
    "device": {"capacity": "0.2 GHz"},
    "radio": {"rate": "20 Mbit/s"},
    "return_result": True,
}
"""Each block lasts a third of a second: a machine that is busy with tests is fast enough."""
LONG: Final[dict[str, Any]] = {
    "slots": 600,
    "arrivals": {"process": "deterministic", "rate": 1},
    "return_result": False,
}
"""Changes for a run that is stopped."""


class Splits(Scheduler):
    """Computes the first block on the device, the second on the server."""

    def decide(self, observation: Observation) -> Placement:
        return [0, 1]


def written(folder: Path, **changes: Any) -> Path:
    """Write the scenario, with other values of some keys, into a file of a folder."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SCENARIO | changes), encoding="utf-8")
    return path


def host_processes(process: int | None = None) -> list[psutil.Process]:
    """Return the hosts and nodes that descend from a process; by default from this one."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "mecsim.testbed.host_start" in each.cmdline():
                    found.append(each)
    return found


def ended(process: int) -> bool:
    """Return whether a process has ended; its parent may not have taken notice of it."""
    try:
        return psutil.Process(process).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
