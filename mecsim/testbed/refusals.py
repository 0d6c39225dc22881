"""What a testbed cannot run: one message for each, before anything starts."""

from __future__ import annotations

import errno
import importlib.util
import math
import os
import socket
from typing import Final

from mecsim.errors import InputError
from mecsim.model.model import Model
from mecsim.model.workload import given_sizes
from mecsim.scenario.schema import BlockTable, ConstantSize, Scenario, TaskClass
from mecsim.scenario.testbed import HostAddress, Testbed, host_address
from mecsim.study.executors.choice import check_executor
from mecsim.testbed.link_rates import check_rates
from mecsim.testbed.modes import Modes
from mecsim.testbed.namespaces import check_machine

MOST_STRETCH: Final = 1e6
MODES: Final = {"nodes": ("padded", "natural"), "links": ("pacing", "tbf")}
_ONE_SIZE: Final = (
    "the tensors of a real DNN have one size; allowed: {distribution: constant}. "
    "Try: --set size_factor={distribution: constant}"
)


def check_modes(modes: Modes) -> None:
    """Raise ``InputError`` for ways of nodes and links that are not known, or do not fit."""
    for key, known in MODES.items():
        if (value := getattr(modes, key)) not in known:
            raise InputError(f"--{key}: {value!r} is not known; allowed: {', '.join(known)}")
    if not 0.0 < modes.stretch <= MOST_STRETCH:
        allowed = f"allowed: above 0 and at most {MOST_STRETCH:g}"
        raise InputError(f"--stretch: {modes.stretch:g}; {allowed}")
    if modes.nodes == "natural" and modes.stretch != 1.0:
        problem = f"{modes.stretch:g} does not go with --nodes natural, which computes in real time"
        raise InputError(f"--stretch: {problem}; leave one of them out")


def check_engine(engine: str, ray_address: str, links: str, testbed: Testbed | None) -> None:
    """Raise ``InputError`` if nodes cannot run where they shall."""
    check_executor(engine, ray_address)
    if engine == "local":
        for name, text in (testbed.hosts or {} if testbed else {}).items():
            _check_address(name, host_address(text))
        return
    if links == "tbf":
        raise InputError(
            "--engine ray: --links tbf shapes links within one machine. Try: --links pacing"
        )
    if testbed is None or not testbed.hosts:
        raise InputError(
            "--engine ray: the scenario gives no machine. "
            "Try: testbed.hosts: {NODE or GROUP: ADDRESS}"
        )
    if not (ray_address or os.environ.get("RAY_ADDRESS")):
        raise InputError(
            "--engine ray: a testbed needs a running cluster. "
            "Try: --ray-address HOST:PORT, as `ray start --head` prints it"
        )


def _check_address(name: str, address: HostAddress) -> None:
    """Raise ``InputError`` if this machine does not have the address of a node, or a free port."""
    shown = f"testbed.hosts.{name}: {address.host}"
    try:
        family, kind, _, _, found = socket.getaddrinfo(
            *address, socket.AF_INET, socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"{shown}:{address.port}: the port is in use. Try: another port, or none"
            ) from error
        raise InputError(
            f"{shown}: {error.strerror or error}; allowed: an address of this machine, or, with "
            "--engine ray, of one of the cluster"
        ) from error


def check_torch() -> None:
    """Raise ``InputError`` if PyTorch is missing."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("testbed: needs PyTorch. Try: pip install 'mecsim[torch]'")


def check_scenario(scenario: Scenario) -> None:
    """Raise ``InputError`` for tasks that real nodes cannot run."""
    with scenario.locating():
        for number, task_class in enumerate(scenario.classes):
            with scenario.in_class(number):
                _check_class(task_class)


def _check_class(task_class: TaskClass) -> None:
    if not isinstance(task_class.size_factor, ConstantSize):
        raise InputError(f"size_factor: is drawn, but {_ONE_SIZE}")
    if isinstance(task_class.dnn.model, BlockTable):
        raise InputError(
            "dnn.model: is a table of blocks, which cannot be computed; "
            "allowed: a shipped model, or a profile with --module NAME=FACTORY"
        )


def check_model(model: Model) -> None:
    """Raise ``InputError`` for a network that real nodes cannot be."""
    with model.scenario.locating():
        for number, task_class in enumerate(model.nominal.classes):
            sizes = given_sizes(task_class.arrivals) or ()
            if any(each != 1.0 for each in sizes):
                with model.scenario.in_class(number):
                    raise InputError(f"arrivals: gives sizes of tasks, but {_ONE_SIZE}")
        _check_network(model)


def _check_network(model: Model) -> None:
    scenario = model.scenario
    if model.metered:
        where = "device.battery" if math.isfinite(_finite(scenario.device.battery)) else "devices"
        raise InputError(f"{where}: a testbed has no batteries; allowed: unlimited")
    if scenario.failures:
        raise InputError(
            "failures: a testbed has no planned failures; leave them out. "
            "Try: end the process of a node, see testbed.on_node_failure"
        )
    for number, each in enumerate(scenario.mobility):
        if each.handover:
            raise InputError(
                f"mobility.{number}.handover: {each.handover:g} s; allowed in a testbed: 0 s"
            )
    if scenario.radio.varies_within_transfers:
        raise InputError(
            "radio.varies_within_transfers: true; allowed in a testbed: false, because nodes send "
            "at the rate of the slot in which a task was released"
        )
    if model.series:
        names = model.resource_names()
        first = names[int(model.series[0].resources[0])]
        raise InputError(
            f"{first}: follows a series over time; allowed in a testbed: one value, or radio rates "
            "that change from slot to slot"
        )


def check_links(model: Model, modes: Modes) -> None:
    """Raise ``InputError`` if the operating system shall shape links and cannot."""
    if modes.links != "tbf":
        return
    testbed = model.scenario.testbed
    if testbed is not None and testbed.hosts:
        raise InputError(
            "testbed.hosts: nodes with --links tbf have networks of their own; leave it out. "
            "Try: --links pacing"
        )
    check_rates(model)
    check_machine()


def _finite(battery: float | str) -> float:
    return battery if isinstance(battery, float) else math.inf
