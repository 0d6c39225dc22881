"""Network namespaces and links that the kernel shapes: real ones, where this machine allows it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from mecsim.errors import InputError, NodeFailedError
from mecsim.testbed import namespaces
from mecsim.testbed.namespaces import check_machine, connect
from mecsim.testbed.shaping import ShapedLink, bucket_bytes
from mecsim.testbed.transfer import on_air_bytes
from tests.helpers.waiting import until

MAP_HEADER = 70
"""Bytes of a map's frame before its payload, at least."""


def _reason() -> str:
    try:
        check_machine()
    except InputError as error:
        return str(error)
    return ""


needs_root = pytest.mark.skipif(bool(_reason()), reason=_reason())

NODE = """
import json, sys, time
from mecsim.testbed.namespaces import enter
enter()
from mecsim.testbed.messages import Map, Peer, Tensor
from mecsim.testbed.transfer import Receiver, Sender, listen
listener = listen(("0.0.0.0", 0))
Receiver(listener, "token", lambda *_: None)
print(listener.getsockname()[1], flush=True)
peers = {}
sender = Sender(sys.argv[1], "token", peers, "clock")
for line in sys.stdin:
    order = json.loads(line)
    target, size = order["target"], order["size"]
    peers[target] = Peer(tuple(order["address"]), "clock")
    tensors = (Tensor("uint8", (size,)),)
    seconds = []
    for task in range(order["count"]):
        time.sleep(order["pause_s"])
        start_at = time.monotonic()
        header = Map(task=task, hop=0, tensors=tensors)
        served = sender.send(
            target, header, [memoryview(bytes(size))], start_at, 1.0, order["bytes_per_s"], True
        )
        seconds.append(served.finish_at - start_at)
    print(json.dumps(seconds), flush=True)
"""
"""A node that receives maps, and sends some on demand."""


class Node:
    """A process in a namespace; it ends when its standard input is closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODE, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(self._line())
        self.namespace = namespace(self.process.pid)

    def transfers(self, **order: Any) -> list[float]:
        """Send maps; return how long each took, in s."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        found: list[float] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, *command: str) -> Any:
        """Run a command in the namespace and return its JSON output."""
        inside = ("nsenter", "-t", str(self.process.pid), "-n", *command)
        return json.loads(subprocess.run(inside, capture_output=True, check=True).stdout)


@contextmanager
def nodes(*names: str) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        found = []
        for name in names:
            found.append(Node(name))
            stack.callback(_end, found[-1].process)
        yield found


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def joined(links: list[ShapedLink], *members: Node) -> Mapping[str, Mapping[str, Any]]:
    return connect(
        links,
        {node.name: node.process.pid for node in members},
        {node.name: node.port for node in members},
    )


def namespace(process: int) -> int:
    return os.stat(f"/proc/{process}/ns/net").st_ino  # noqa: PTH116


def gone(*found: int) -> bool:
    """Whether no process is in any of these namespaces."""
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                if namespace(int(each.name)) in found:
                    return False
            except OSError:  # it has ended
                pass
    return True


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))  # noqa: PTH208 - names


@pytest.fixture
def untouched() -> Iterator[None]:
    """Interfaces and named namespaces of this machine are the same after a test."""
    named = Path("/run/netns")
    before = interfaces(), sorted(named.glob("*"))
    yield
    assert (interfaces(), sorted(named.glob("*"))) == before


# ---------------------------------------------------------------- real namespaces


@needs_root
@pytest.mark.usefixtures("untouched")
def test_links() -> None:
    """Each direction has its own rate, addresses, and nothing else is in a namespace."""
    links = [ShapedLink("a", "b", 125_000.0), ShapedLink("b", "a", 12_500_000.0)]
    with nodes("a", "b") as (a, b):
        found = joined(links, a, b)
        assert found == {"a": {"b": ("198.18.0.2", b.port)}, "b": {"a": ("198.18.0.6", a.port)}}
        assert namespace(a.process.pid) != namespace(b.process.pid) != namespace(os.getpid())
        for node, out, into, rate in ((a, "out0", "in1", 125_000), (b, "out1", "in0", 12_500_000)):
            shown = node.run("ip", "-j", "addr")
            assert {each["ifname"] for each in shown} == {"lo", out, into}
            assert all("UP" in each["flags"] for each in shown)
            assert not [a for each in shown for a in each["addr_info"]
                        if each["ifname"] != "lo" and a["family"] != "inet"]  # fmt: skip
            kinds = {each["dev"]: each for each in node.run("tc", "-j", "qdisc")}
            assert kinds[into]["kind"] == "noqueue"
            assert kinds[out]["kind"] == "tbf"
            assert kinds[out]["options"]["rate"] == rate
            assert abs(kinds[out]["options"]["burst"] - bucket_bytes(rate)) <= 1
    until(lambda: gone(a.namespace, b.namespace))


@needs_root
@pytest.mark.usefixtures("untouched")
def test_transfer_is_not_faster_than_link() -> None:
    """Not even the first one, nor one after a pause: the filling takes what the bucket holds."""
    rate, size = 125_000.0, 3072
    with nodes("a", "b") as (a, b):
        address = joined([ShapedLink("a", "b", rate)], a, b)["a"]["b"]
        order = {"target": "b", "address": address, "size": size, "bytes_per_s": rate}
        took = a.transfers(**order, count=4, pause_s=0.02)
    least = on_air_bytes(size + MAP_HEADER) - 2 * 66 - 40  # filling is not sent for single packets
    assert min(took) >= least / rate


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mbps", "size", "count"),
    [(1, 2**14, 4), (1, 2**18, 2), (10, 2**14, 20), (10, 2**18, 5), (100, 2**22, 8)],
)
@pytest.mark.parametrize("pause_s", [0.0, 0.03])
def test_time_of_transfers(mbps: float, size: int, count: int, pause_s: float) -> None:
    """Within 3% and 0.5 ms: no faster in the mean, no slower at best, as other processes delay."""
    rate = mbps * 1e6 / 8
    with nodes("a", "b") as (a, b):
        address = joined([ShapedLink("a", "b", rate)], a, b)["a"]["b"]
        order = {"target": "b", "address": address, "size": size, "bytes_per_s": rate}
        took = a.transfers(**order, count=count, pause_s=pause_s)
    expected = on_air_bytes(size + MAP_HEADER) / rate
    assert fmean(took) > 0.97 * expected
    assert min(took) < 1.03 * expected + 0.5e-3


@needs_root
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("rate", [0.0, 1e30])
def test_refusal_halfway(rate: float) -> None:
    """The kernel makes the interfaces, but no bucket."""
    with nodes("a", "b") as (a, b):
        with pytest.raises(InputError, match=r"--links tbf: tc: .*Expected: a kernel that has"):
            joined([ShapedLink("a", "b", 1e6), ShapedLink("b", "a", rate)], a, b)
        assert {each["ifname"] for each in a.run("ip", "-j", "addr")} == {"lo", "out0", "in1"}
    until(lambda: gone(a.namespace, b.namespace))


@needs_root
@pytest.mark.usefixtures("untouched")
def test_process_outside() -> None:
    with nodes("a") as (a,):
        pids = {"a": a.process.pid, "b": os.getpid()}
        with pytest.raises(InputError, match="node b has no network namespace"):
            connect([ShapedLink("a", "b", 1e6)], pids, {"a": 1, "b": 1})
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        with pytest.raises(NodeFailedError, match="node b: has ended before"):
            connect([ShapedLink("a", "b", 1e6)], pids | {"b": ended.pid}, {"a": 1, "b": 1})
        assert [each["ifname"] for each in a.run("ip", "-j", "addr")] == ["lo"]


CONTROLLER = """
import sys, time
from mecsim.testbed import namespaces
from mecsim.testbed.shaping import ShapedLink
from tests.testbed.test_namespaces import joined, nodes

def report():
    print(*(node.namespace for node in members), flush=True)
    time.sleep(3600)

def run_and_wait(self, command, lines):
    run(self, command, lines)
    report()

run = namespaces._Batches._run
if sys.argv[1] == "halfway":
    namespaces._Batches._run = run_and_wait
with nodes("a", "b") as members:
    joined([ShapedLink("a", "b", 1e6), ShapedLink("b", "a", 1e6)], *members)
    report()
"""
"""A controller that waits to be killed, when all is set up or when only the pairs are made."""


@needs_root
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("stage", ["joined", "halfway"])
def test_killed_controller(stage: str) -> None:
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, stage], stdout=subprocess.PIPE, text=True
    )
    with controller:
        assert controller.stdout is not None
        found = [int(each) for each in controller.stdout.readline().split()]
        assert len(found) == 2
        assert not gone(*found)
        controller.send_signal(signal.SIGKILL)
    until(lambda: gone(*found))


# ---------------------------------------------------------------- refusals


def test_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError) as raised:
        check_machine()
    assert str(raised.value) == (
        "--links tbf: ip, tc, nsenter not found. Expected: the packages iproute2 and util-linux "
        "of Linux. Try: --links pacing"
    )


@pytest.mark.parametrize(
    ("capabilities", "problem"),
    [
        ("0000000000000000", "the process lacks CAP_NET_ADMIN and CAP_SYS_ADMIN"),
        ("00000000a80425fb", "the process lacks CAP_NET_ADMIN and CAP_SYS_ADMIN"),  # a container
        ("00000000a80435fb", "the process lacks CAP_SYS_ADMIN"),
    ],
)
def test_missing_capabilities(
    capabilities: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tmecsim\nCapEff:\t{capabilities}\n", "ascii")
    monkeypatch.setattr("shutil.which", lambda name: f"/sbin/{name}")
    monkeypatch.setattr(namespaces, "_STATUS", status)
    with pytest.raises(InputError, match=f"--links tbf: {problem}. Expected: root"):
        check_machine()
    status.write_text("CapEff:\t000001fffeffffff\n", "ascii")
    check_machine()
    status.unlink()
    with pytest.raises(InputError, match="the process lacks"):
        check_machine()


def test_too_many_links() -> None:
    links = [ShapedLink("a", "b", 1e6)] * (namespaces.MOST_LINKS + 1)
    with pytest.raises(InputError, match=r"32,769 directed links\. Expected: at most 32,768"):
        connect(links, {}, {})
