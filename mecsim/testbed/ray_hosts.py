"""Hosts on the machines of a Ray cluster: an actor for each address starts the host process there.

The actor passes settings on to the host as it gets them, JSON lines. Nodes connect to the
controller by themselves. Ray ends the actors when the controller ends, and hosts die with their
actors.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from mecsim.errors import InputError, MecsimError, NodeFailedError
from mecsim.support import signals
from mecsim.testbed.host_process import BlocksOfClass, Built, HostProcess, settings_of
from mecsim.testbed.settings import NodeConfig

START_S: Final = 120.0
"""How long Ray may take to start an actor."""
ANSWER_S: Final = 660.0
"""How long an actor may take; the host in it has less time."""
_REASON_S: Final = 3.0
_END_S: Final = 10.0
_STEP_S: Final = 0.1


class HostActor:
    """Holds the host process of a machine, in a process of Ray.

    Answers are pairs: ``done`` and a value, ``refused`` or ``failed`` and a message.
    """

    def __init__(self) -> None:
        self._host: HostProcess | None = None

    def describe(self) -> dict[str, Any]:
        """Return what the controller must know before it starts the host."""
        torch = importlib.util.find_spec("torch") is not None
        return {"mecsim": version("mecsim"), "torch": torch}

    def build(self, classes: str) -> tuple[str, Any]:
        """Start the host; let it build and time the blocks of a JSON list of classes."""
        self._host = HostProcess()
        return _answered(lambda: tuple(self._started.build_settings(json.loads(classes))))

    def fork(self, config: str) -> tuple[str, Any]:
        """Let the host fork a node with settings in JSON."""
        return _answered(lambda: self._started.fork(NodeConfig.model_validate_json(config)))

    def reason(self, name: str) -> str:
        """Return why a node has ended; empty if that is not known."""
        return self._host.reason(name) if self._host else ""

    def close(self) -> None:
        """End the host and its nodes."""
        if self._host:
            self._host.close()

    @property
    def _started(self) -> HostProcess:
        if self._host is None:
            raise NodeFailedError("the host was not started")
        return self._host


def _answered(call: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "done", call()
    except InputError as error:
        return "refused", str(error)
    except MecsimError as error:
        return "failed", str(error)


def pinned(address: str) -> dict[str, Any]:
    """Return the options of an actor that may only run on the machine with an address."""
    return {"num_cpus": 0, "resources": {f"node:{address}": 0.001}, "max_restarts": 0}


class RayHosts:
    """The hosts of a testbed on several machines.

    Args:
        ray: The package, which is connected to a cluster.
        addresses: The address of each node that has one; the others run on this machine.
        names: All nodes.

    Raises:
        InputError: An address is no node of the cluster, a machine has another version of mecsim or
            no PyTorch, or the cluster starts no actor there.
    """

    def __init__(self, ray: Any, addresses: Mapping[str, str], names: Sequence[str]) -> None:
        self._ray, self._addresses = ray, dict(addresses)
        self._names = list(names)
        alive = {
            each["NodeID"]: each["NodeManagerAddress"] for each in ray.nodes() if each["Alive"]
        }
        self.address: str = alive[ray.get_runtime_context().get_node_id()]
        """Where nodes reach the controller."""
        _check_addresses(addresses, set(alive.values()))
        self._local: HostProcess | None = None
        self._built = False
        remote = ray.remote(HostActor)
        self._actors = {
            each: remote.options(**pinned(each)).remote() for each in sorted({*addresses.values()})
        }
        try:
            self._check_machines()
            if len(addresses) < len(names):
                self._local = HostProcess()
        except BaseException:
            self.close()
            raise

    def build(self, classes: Sequence[BlocksOfClass]) -> dict[str, Built]:
        """Let every host build and time the blocks; return what each has found, by its address."""
        line = json.dumps(settings_of(classes))
        building = {key: actor.build.remote(line) for key, actor in self._actors.items()}
        found = {self.address: self._local.build(classes)} if self._local else {}
        for address, reference in building.items():
            built = Built(*self._result(address, reference))
            found[address] = built
        self._built = True
        return found

    def names_at(self, address: str) -> list[str]:
        """Return the nodes of a machine."""
        return [name for name in self._names if self._addresses.get(name, self.address) == address]

    def fork(self, config: NodeConfig) -> None:
        """Let the host of a node fork it."""
        address = self._addresses.get(config.name)
        if address is None:
            self._here.fork(config)
        else:
            forking = self._actors[address].fork.remote(config.model_dump_json())
            self._result(address, forking)

    def reason(self, name: str) -> str:
        """Return why a node has ended, after a short wait; empty if that is not known."""
        address = self._addresses.get(name)
        if address is None:
            return self._here.reason(name)
        try:
            asked = self._actors[address].reason.remote(name)
            return str(self._ray.get(asked, timeout=_REASON_S))
        except self._ray.exceptions.RayError:
            return f"its host at {address} has ended or does not answer"

    def close(self) -> None:
        """End all hosts and their nodes."""
        if self._local is not None:
            self._local.close()
        if self._built:  # a host that builds would not listen
            ending = [actor.close.remote() for actor in self._actors.values()]
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.wait(ending, num_returns=len(ending), timeout=_END_S)
        for actor in self._actors.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    @property
    def _here(self) -> HostProcess:
        assert self._local is not None
        return self._local

    def _check_machines(self) -> None:
        """Check that all machines have what nodes need."""
        expected = version("mecsim")
        asked = {key: actor.describe.remote() for key, actor in self._actors.items()}
        for address, reference in asked.items():
            try:
                found = self._value(reference, START_S)
            except TimeoutError:
                raise InputError(
                    f"testbed.hosts: {address}: Ray has started no host there in {START_S:.0f} s. "
                    "Try: `ray status`"
                ) from None
            except self._ray.exceptions.RayError as error:
                raise InputError(
                    f"testbed.hosts: {address}: cannot start a host: {_last_line(error)}. "
                    f"Expected: mecsim {expected} with the extras torch and ray"
                ) from error
            if found["mecsim"] != expected:
                raise InputError(
                    f"testbed.hosts: {address}: has mecsim {found['mecsim']}. "
                    f"Expected: {expected}, as on this machine"
                )
            if not found["torch"]:
                raise InputError(
                    f"testbed.hosts: {address}: has no PyTorch. Try there: "
                    "pip install 'mecsim[torch,ray]'"
                )

    def _result(self, address: str, reference: Any) -> Any:
        """Wait for the answer of an actor; raise what it reports."""
        try:
            kind, value = self._value(reference, ANSWER_S)
        except TimeoutError:
            raise NodeFailedError(f"host {address}: no answer for {ANSWER_S:.0f} s") from None
        except self._ray.exceptions.RayError as error:
            raise NodeFailedError(f"host {address}: has ended: {_last_line(error)}") from error
        if kind == "done":
            return value
        failed = InputError if kind == "refused" else NodeFailedError
        raise failed(f"host {address}: {value}")

    def _value(self, reference: Any, limit_s: float) -> Any:
        until_at = time.monotonic() + limit_s
        with signals.between_steps() as check:
            while not self._ray.wait([reference], timeout=_STEP_S)[0]:
                check()
                if time.monotonic() > until_at:
                    raise TimeoutError
        return self._ray.get(reference)


def _check_addresses(addresses: Mapping[str, str], known: set[str]) -> None:
    for name, address in addresses.items():
        if address not in known:
            raise InputError(
                f"testbed.hosts: {address}, the address of {name}, is no node of the Ray cluster. "
                f"Its nodes: {', '.join(sorted(known))}. Try there: ray start --address=HOST:PORT"
            )


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()


@contextlib.contextmanager
def ray_hosts(
    ray_address: str, addresses: Mapping[str, str], names: Sequence[str]
) -> Iterator[RayHosts]:
    """Connect to a running Ray cluster and start an actor for each address.

    Args:
        ray_address: ``HOST:PORT``.
        addresses: The address of each node that has one.
        names: All nodes.

    Raises:
        InputError: Ray is not installed, the cluster does not answer, or see `RayHosts`.
    """
    from mecsim.study.executors.ray_executor import Cluster  # noqa: PLC0415 - Ray is optional

    with Cluster(ray_address):
        import ray  # noqa: PLC0415 - it reads variables that the cluster has set

        hosts = RayHosts(ray, addresses, names)
        try:
            yield hosts
        finally:
            hosts.close()
