"""Nodes: tasks on their way through stations and between nodes, reports, polls, wrong peers.

Resources: 0 the CPU of the server, 1 that of the device, 2 the uplink, 3 the downlink.
"""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch

from mecsim.testbed import clock, frames, node
from mecsim.testbed.computation import Computation, pack, unpack
from mecsim.testbed.frames import Decoder, MessageError
from mecsim.testbed.messages import (
    Ack,
    Dropped,
    Error,
    Hello,
    Hop,
    Lost,
    Map,
    Message,
    Ping,
    Poll,
    Pong,
    Record,
    State,
    Stop,
    Tensor,
)
from mecsim.testbed.stations import Job, Served
from mecsim.testbed.transfer import listen
from tests.helpers.waiting import PATIENCE_S, until
from tests.testbed.in_process import (
    TOKEN,
    Controlled,
    StandIn,
    begin,
    computation,
    release,
)

DEVICE = ((1, "cpu", 1), (2, "link", 1))
SERVER = ((0, "cpu", 2), (3, "link", 1))
LOCAL = Hop(1, 0, 0.002, 0.0, 0.0, "device", None)
LOCAL_2 = Hop(1, 1, 0.002, 0.0, 0.0, "device", None)
UP = Hop(2, 1, 0.001, 0.0, 1e7, "device", "server")
REMOTE = Hop(0, 1, 0.002, 0.0, 0.0, "server", None)
DOWN = Hop(3, 1, 0.001, 0.0, 1e7, "server", "device")


@pytest.fixture
def made() -> Iterator[Callable[..., Controlled]]:
    nodes = []

    def make(
        name: str, stations: Any = (), own: Computation | None = None, **options: Any
    ) -> Controlled:
        nodes.append(Controlled(name, stations, own or computation(), **options))
        return nodes[-1]

    yield make
    for each in nodes:
        each.close()


def test_a_task_runs_through_device_uplink_server_and_downlink(
    made: Callable[..., Controlled],
) -> None:
    results: queue.Queue[torch.Tensor] = queue.Queue()
    device, server = made("device", DEVICE), made("server", SERVER, computation(results.put))
    results.get(timeout=PATIENCE_S), results.get(timeout=PATIENCE_S)  # both workers warm up
    start = begin(device, server)
    task = release(5, [LOCAL, UP, REMOTE, DOWN], release_s=0.01)
    for each in (server, device):
        each.send(task)
    first, second = device.next(), device.next()
    third, fourth = server.next(), server.next()
    assert results.get(timeout=PATIENCE_S).tolist() == [[3.0, 7.0]]
    records = [first, second, third, fourth]
    assert [(r.task, r.hop) for r in records if isinstance(r, Record)] == [
        (5, 0), (5, 1), (5, 2), (5, 3)
    ]  # fmt: skip
    at = start.origin_at + 0.01
    for record, hop in zip(records, task.hops, strict=True):
        assert isinstance(record, Record)
        assert at == record.joined_at == record.start_at <= record.begun_at
        assert record.finish_at >= record.start_at + (hop.service_s if hop.target is None else 0)
        at = record.finish_at
    until(lambda: not device.node._ways and not server.node._ways)


def test_a_result_that_is_back_before_the_first_transfer_was_reported(
    made: Callable[..., Controlled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of the uplink is slow: the task ends before it handles the acknowledgement."""
    device, server = made("device", DEVICE), made("server", SERVER)
    finished = device.node.finished

    def slow(job: Job, start_at: float, served: Served) -> None:
        if job.hop == 1:
            until(lambda: not device.node._ways)  # the result has come back
        finished(job, start_at, served)

    monkeypatch.setattr(device.node, "finished", slow)
    begin(device, server)
    task = release(5, [LOCAL, UP, REMOTE, DOWN])
    for each in (server, device):
        each.send(task)
    reports = [device.next(), device.next(), server.next(), server.next()]
    assert [r.hop for r in reports if isinstance(r, Record)] == [0, 1, 2, 3]


def test_times_are_stretched_and_a_latency_passes(made: Callable[..., Controlled]) -> None:
    device = made("device", DEVICE)
    start = begin(device, stretch=4.0)
    device.send(release(1, [LOCAL._replace(latency_s=0.003), LOCAL_2], release_s=0.01))
    first, second = device.next(), device.next()
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.joined_at == start.origin_at + 0.01 * 4.0
    assert first.finish_at >= first.start_at + 0.008
    assert second.joined_at == first.finish_at + 0.003 * 4.0


def test_natural_nodes_do_not_wait(made: Callable[..., Controlled]) -> None:
    device = made("device", DEVICE, nodes="natural")
    begin(device)
    device.send(release(1, [LOCAL._replace(service_s=1e6)]))
    assert isinstance(device.next(), Record)


def test_a_block_gets_its_own_copy_of_the_raw_input(made: Callable[..., Controlled]) -> None:
    seen: queue.Queue[list[int]] = queue.Queue()

    def spoil(x: torch.Tensor) -> torch.Tensor:
        seen.put(x.flatten().tolist())
        return x.zero_()

    image = computation().inputs(0)[0]
    block = StandIn(spoil, (image,), (image,))  # type: ignore[arg-type] # has type and shape, too
    raw = torch.tensor([[2, 4, 6, 8]], dtype=torch.uint8)
    device = made("device", DEVICE, Computation([(block,)], [(raw,)]))
    begin(device)
    for task in range(2):
        device.send(release(task, [LOCAL]))
        device.next()
    assert [seen.get(timeout=PATIENCE_S) for _ in range(3)] == [[2, 4, 6, 8]] * 3


def test_a_poll_gives_the_state_in_seconds_of_the_scenario(
    made: Callable[..., Controlled],
) -> None:
    device = made("device", DEVICE)
    begin(device, stretch=10.0)
    device.send(Poll(number=4))
    state = device.next()
    assert isinstance(state, State)
    assert (state.number, state.resources) == (4, {"1": (0.0, 0), "2": (0.0, 0)})
    device.send(release(1, [LOCAL._replace(service_s=1e3)]))
    device.send(release(2, [LOCAL._replace(service_s=2e3)]))

    def waits() -> bool:
        device.send(Poll(number=5))
        state = device.next()
        assert isinstance(state, State)
        wait_s, jobs = state.resources["1"]
        return jobs == 2 and 2990 < wait_s <= 3000

    until(waits)


def test_a_ping_is_answered_with_the_time(made: Callable[..., Controlled]) -> None:
    device = made("device", DEVICE)
    ready = device.ready()
    assert ready.clock == clock.identity()
    before = time.monotonic()
    device.send(Ping(sent_at=1.5))
    pong = device.next()
    assert isinstance(pong, Pong)
    assert pong.sent_at == 1.5
    assert before <= pong.received_at <= time.monotonic()


def test_a_late_task_is_dropped(made: Callable[..., Controlled]) -> None:
    """The second one waits for the first until it is too late; the third one is not late."""
    device = made("device", DEVICE)
    start = begin(device)
    for task, drop_s in ((1, None), (2, 0.02), (3, 60.0)):
        device.send(release(task, [LOCAL._replace(service_s=0.06)], drop_s=drop_s))
    found = [device.next() for _ in range(3)]
    dropped, first, third = found
    assert isinstance(dropped, Dropped)
    assert (dropped.task, dropped.hop) == (2, 0)
    assert dropped.at >= start.origin_at + 0.02
    assert [r.task for r in (first, third) if isinstance(r, Record)] == [1, 3]


def test_a_task_is_lost_where_its_node_is_gone_and_others_continue(
    made: Callable[..., Controlled],
) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        gone = listener.getsockname()
    device, server = made("device", DEVICE), made("server", SERVER)
    begin(device, server, server=gone)
    device.send(release(1, [UP, REMOTE]))
    lost = device.next()
    assert isinstance(lost, Lost)
    assert (lost.task, lost.hop) == (1, 0)
    assert lost.reason.startswith(f"server at 127.0.0.1:{gone[1]}: Connection refused")
    device.send(release(2, [LOCAL]))
    assert isinstance(device.next(), Record)
    assert not device.node._ways


def test_a_block_that_fails_loses_its_task(made: Callable[..., Controlled]) -> None:
    failures = iter([False, True, False])  # the first call warms up

    def fail(_: torch.Tensor) -> None:
        if next(failures):
            raise RuntimeError("shapes cannot be multiplied\n(1x4 and 3x2)")

    device = made("device", DEVICE, computation(fail))
    begin(device)
    device.send(release(1, [LOCAL, LOCAL_2]))
    assert isinstance(device.next(), Record)
    lost = device.next()
    assert isinstance(lost, Lost)
    assert (lost.task, lost.hop) == (1, 1)
    assert lost.reason == "RuntimeError: shapes cannot be multiplied"
    device.send(release(2, [LOCAL]))
    assert isinstance(device.next(), Record)


def test_a_task_that_was_lost_elsewhere_is_forgotten(made: Callable[..., Controlled]) -> None:
    server = made("server", SERVER)
    begin(server)
    server.send(release(1, [UP, REMOTE, DOWN]))
    until(lambda: 1 in server.node._ways)
    server.send(Lost(task=1, hop=0, at=1.0, reason="device: ended"))
    until(lambda: not server.node._ways)


class Neighbour:
    """The test as another node that sends maps."""

    def __init__(self, address: tuple[str, int], token: str = TOKEN) -> None:
        self.connection = socket.create_connection(address, timeout=PATIENCE_S)
        frames.send(self.connection, Hello(token=token, name="device"))

    def send(self, task: int, hop: int, *tensors: torch.Tensor) -> Message:
        described, payload = pack(tensors)
        header = Map(task=task, hop=hop, tensors=described)
        self.connection.sendall(b"".join((frames.frame(header), *payload)))
        received = frames.receive(self.connection, Decoder((Ack, Error)))
        assert received is not None
        return received.message


@pytest.fixture
def server(made: Callable[..., Controlled]) -> Controlled:
    return made("server", SERVER)


@pytest.fixture
def neighbour(server: Controlled) -> Iterator[Callable[[], Neighbour]]:
    ready = server.ready()
    connections = []

    def make() -> Neighbour:
        connections.append(Neighbour(ready.address))
        return connections[-1]

    server.ready = lambda: ready  # type: ignore[method-assign]
    begin(server)
    yield make
    for each in connections:
        each.connection.close()


FEATURES = torch.tensor([[1.0, 2.0, 3.0, 4.0]])


def test_a_map_that_comes_before_its_release_waits_for_it(
    server: Controlled, neighbour: Callable[[], Neighbour]
) -> None:
    assert isinstance(neighbour().send(1, 0, FEATURES), Ack)
    server.send(release(1, [UP, REMOTE]))
    record = server.next()
    assert isinstance(record, Record)
    assert (record.task, record.hop) == (1, 1)


def test_a_map_before_its_release_that_does_not_fit_is_lost(
    server: Controlled, neighbour: Callable[[], Neighbour]
) -> None:
    assert isinstance(neighbour().send(1, 0, FEATURES.double()), Ack)
    server.send(release(1, [UP, REMOTE]))
    lost = server.next()
    assert isinstance(lost, Lost)
    assert "float64 [1, 4]. Expected: float32 [1, 4]" in lost.reason


@pytest.mark.parametrize(
    ("hop", "tensors", "reason"),
    [
        (0, [FEATURES.double()], "hop 0 of task 1: float64 [1, 4]. Expected: float32 [1, 4]"),
        (0, [FEATURES.T], "hop 0 of task 1: float32 [4, 1]. Expected: float32 [1, 4]"),
        (0, [FEATURES, FEATURES], "Expected: float32 [1, 4]"),
        (1, [FEATURES], "hop 1 of task 1 does not lead here"),
        (2, [FEATURES], "hop 2 of task 1 does not lead here"),
        (9, [FEATURES], "hop 9 of task 1 does not lead here"),
    ],
)
def test_a_map_that_is_not_the_expected_one_is_refused(
    server: Controlled,
    neighbour: Callable[[], Neighbour],
    hop: int,
    tensors: list[torch.Tensor],
    reason: str,
) -> None:
    server.send(release(1, [UP, REMOTE, DOWN]))
    until(lambda: 1 in server.node._ways)
    answer = neighbour().send(1, hop, *tensors)
    assert isinstance(answer, Error)
    assert reason in answer.message
    assert isinstance(neighbour().send(1, 0, FEATURES), Ack)  # the right one still comes


def test_a_map_that_comes_twice_is_refused(
    server: Controlled, neighbour: Callable[[], Neighbour]
) -> None:
    long = Hop(0, 1, 60.0, 0.0, 0.0, "server", None)  # the task is still there
    server.send(release(1, [UP, long, DOWN]))
    until(lambda: 1 in server.node._ways)
    assert isinstance(neighbour().send(1, 0, FEATURES), Ack)
    answer = neighbour().send(1, 0, FEATURES)
    assert isinstance(answer, Error)
    assert answer.message == "the map of hop 0 of task 1 came twice"


def test_maps_of_unknown_tasks_are_limited(
    server: Controlled, neighbour: Callable[[], Neighbour], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "MOST_EARLY", 2)
    peer = neighbour()
    assert [type(peer.send(task, 0, FEATURES)) for task in range(3)] == [Ack, Ack, Error]


def test_the_map_of_a_task_that_was_lost_is_taken_and_forgotten(
    server: Controlled, neighbour: Callable[[], Neighbour]
) -> None:
    server.send(Lost(task=1, hop=0, at=1.0, reason="gone"))
    until(lambda: 1 in server.node._gone)
    assert isinstance(neighbour().send(1, 0, FEATURES), Ack)
    assert not server.node._early


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (release(1, [REMOTE]).model_copy(update={"task_class": 7}), "there is no task class 7"),
        (release(1, [REMOTE._replace(block=2)]), "hop 0: there is no block 2"),
        (release(1, [REMOTE._replace(resource=9)]), "hop 0: server has no cpu 9"),
        (release(1, [REMOTE._replace(resource=3)]), "hop 0: server has no cpu 3"),
        (
            Record(task=1, hop=0, joined_at=0, start_at=0, begun_at=0, finish_at=0),
            "frame record is not",
        ),
    ],
)
def test_a_wrong_order_of_the_controller_ends_the_node_with_the_reason(
    server: Controlled, neighbour: Callable[[], Neighbour], message: Message, reason: str
) -> None:
    server.send(message)
    error = server.next()
    assert isinstance(error, Error)
    assert reason in error.message
    until(lambda: isinstance(server.failure, MessageError))


def test_a_release_before_the_start_ends_the_node(made: Callable[..., Controlled]) -> None:
    server = made("server", SERVER)
    server.ready()
    server.send(release(1, [REMOTE]))
    error = server.next()
    assert isinstance(error, Error)
    assert "Expected: start first" in error.message


def test_a_node_that_cannot_listen_says_so(made: Callable[..., Controlled]) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        server = made("server", SERVER, bind=listener.getsockname()[:2])
        assert isinstance(server.next(), Hello)
        error = server.next()
    assert isinstance(error, Error)
    assert "Address already in use" in error.message
    assert error.message.startswith("server: ")


def test_a_node_ends_with_a_stop_and_with_its_controller(made: Callable[..., Controlled]) -> None:
    stopped, orphaned = made("device", DEVICE), made("server", SERVER)
    begin(stopped, orphaned)
    stopped.send(Stop())
    orphaned.connection.shutdown(socket.SHUT_WR)
    for each in (stopped, orphaned):
        each._thread.join(PATIENCE_S)
        assert not each._thread.is_alive()
        assert each.failure is None


@pytest.mark.parametrize("name", ["bool", "uint8", "int16", "float16", "bfloat16", "float64"])
def test_tensors_survive_the_way_as_bytes(name: str) -> None:
    tensor = (torch.arange(6) % 5).to(getattr(torch, name)).reshape(2, 3).T
    odd = torch.tensor([1, 2, 3], dtype=torch.uint8)  # moves the others off their alignment
    empty, scalar = torch.empty((0, 2)), torch.tensor(1.5)
    sent = (odd, tensor, scalar, empty)
    described, payload = pack(sent)
    assert described[1] == Tensor(name, (3, 2))
    received = unpack(described, bytearray(b"".join(payload)))
    assert all(torch.equal(a, b) for a, b in zip(sent, received, strict=True))
    assert [a.dtype for a in sent] == [b.dtype for b in received]
    assert all(each.data_ptr() % each.element_size() == 0 for each in received)


def test_a_paced_link_keeps_order_and_leaves_no_gap(made: Callable[..., Controlled]) -> None:
    """Transfers that wait start when the one before has been received."""
    device, server = made("device", DEVICE), made("server", SERVER)
    begin(device, server)
    tasks = [release(task, [UP, REMOTE._replace(block=0)]) for task in range(6)]
    for task in tasks:
        server.send(task)
    for task in tasks:
        device.send(task)
    records = [device.next() for _ in tasks]
    assert [r.task for r in records if isinstance(r, Record)] == list(range(6))
    for before, after in pairwise(records):
        assert isinstance(before, Record)
        assert isinstance(after, Record)
        assert after.start_at == max(before.finish_at, after.joined_at)
