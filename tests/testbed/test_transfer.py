"""Transfers: what arrives, the schedule of a paced one, and peers that are wrong, slow or gone."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mecsim.testbed import frames, transfer
from mecsim.testbed.frames import Decoder, MessageError
from mecsim.testbed.messages import Ack, Error, Fill, Hello, Map, Message, Peer, Stop, Tensor
from mecsim.testbed.stations import LostError, Served
from mecsim.testbed.transfer import Receiver, Sender, listen, on_air_bytes
from tests.helpers.waiting import PATIENCE_S

CLOCK = "boot-1"
FAST = 1e9


def a_map(size: int, task: int = 1) -> Map:
    return Map(task=task, hop=0, tensors=(Tensor("uint8", (size,)),))


class Inbox:
    """Takes maps; refuses those of task 13."""

    def __init__(self) -> None:
        self._maps: queue.Queue[tuple[Map, bytearray, float]] = queue.Queue()

    def __call__(self, header: Map, payload: bytearray, finish_at: float) -> None:
        if header.task == 13:
            raise MessageError("task 13 is unwanted")
        self._maps.put((header, payload, finish_at))

    def next(self) -> tuple[Map, bytearray, float]:
        return self._maps.get(timeout=PATIENCE_S)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def address(inbox: Inbox) -> Iterator[tuple[str, int]]:
    listener = listen(("127.0.0.1", 0))
    receiver = Receiver(listener, "secret", inbox)
    yield listener.getsockname()
    receiver.close()


@pytest.fixture
def sender_to() -> Iterator[Callable[..., Sender]]:
    senders = []

    def make(address: tuple[str, int], token: str = "secret", clock: str = CLOCK) -> Sender:
        senders.append(Sender("device0", token, {"server1": Peer(address, clock)}, CLOCK))
        return senders[-1]

    yield make
    for each in senders:
        each.close()


def sent(sender: Sender, header: Map, bytes_per_s: float = FAST, **options: Any) -> Served:
    payload = [memoryview(bytes(range(256)) * (header.payload_bytes() // 256 + 1))]
    payload = [payload[0][: header.payload_bytes()]]
    start_at = time.monotonic()
    return sender.send("server1", header, payload, start_at, 1.0, bytes_per_s, **options)


@pytest.mark.parametrize(
    ("written", "expected"),
    [(0, 0), (1, 67), (1448, 1514), (1449, 1581), (2896, 3028), (1_000_000, 1_045_606)],
)
def test_headers_are_counted_for_each_segment(written: int, expected: int) -> None:
    assert on_air_bytes(written) == expected


@pytest.mark.parametrize("shaped", [False, True])
@pytest.mark.parametrize("size", [0, 1, 3072, 300_000])
def test_a_map_arrives_as_it_was_sent(
    address: tuple[str, int],
    inbox: Inbox,
    sender_to: Callable[..., Sender],
    size: int,
    shaped: bool,
) -> None:
    header = a_map(size)
    served = sent(sender_to(address), header, shaped=shaped)
    found, payload, finish_at = inbox.next()
    assert (found, bytes(payload)) == (header, (bytes(range(256)) * (size // 256 + 1))[:size])
    assert served.finish_at == served.reported_at == finish_at


def test_a_connection_carries_map_after_map(
    address: tuple[str, int], inbox: Inbox, sender_to: Callable[..., Sender]
) -> None:
    sender = sender_to(address)
    ends = [sent(sender, a_map(100, task)).finish_at for task in range(5)]
    assert [inbox.next()[0].task for _ in range(5)] == list(range(5))
    assert ends == sorted(ends)


def test_the_planned_end_is_that_of_the_bytes_on_air(
    address: tuple[str, int], sender_to: Callable[..., Sender]
) -> None:
    """3072 bytes and the frame's header at 1 MB/s: the last byte is not written before."""
    header, start_at = a_map(3072), time.monotonic()
    on_air = on_air_bytes(len(frames.frame(header)) + 3072)
    sender = sender_to(address)
    served = sender.send("server1", header, [memoryview(bytes(3072))], start_at, 1.0, 1e5)
    assert served.finish_at >= start_at + on_air / 1e5
    assert served.free_at >= start_at + on_air / 1e5


def test_filling_comes_before_a_map_after_a_pause(
    sender_to: Callable[..., Sender],
) -> None:
    """A bucket of 4 ms at 1 MB/s is full at the start, and gets 1000 bytes in 1 ms."""
    listener = listen(("127.0.0.1", 0))
    sender = sender_to(listener.getsockname())
    arrived: list[Message] = []

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            decoder = Decoder((Hello, Map, Fill))
            while received := frames.receive(connection, decoder):
                message = received.message
                arrived.append(message)
                if isinstance(message, Map):
                    ack = Ack(task=message.task, hop=message.hop, finish_at=100.0)
                    frames.send(connection, ack)

    thread = threading.Thread(target=receive)
    thread.start()
    for task, start_at in enumerate((50.0, 100.001, 100.0)):
        header = a_map(100, task)
        sender.send("server1", header, [memoryview(bytes(100))], start_at, 1.0, 1e6, shaped=True)
    sender.close()
    thread.join()
    listener.close()
    kinds = [type(each) for each in arrived]
    assert kinds == [Hello, Fill, Map, Fill, Map, Map]
    counts = [each.count for each in arrived if isinstance(each, Fill)]
    on_air = [on_air_bytes(len(frames.frame(Fill(count=count))) + count) for count in counts]
    assert [abs(found - held) <= 1 for found, held in zip(on_air, (4000, 1000), strict=True)]


class Tape:
    """Stands in for a connection and a clock: notes when bytes are written; sleeping is exact."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, write_s: float = 0.0) -> None:
        self.now, self._write_s = 0.0, write_s
        self.written: list[tuple[float, int]] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-6)

    def sendall(self, data: memoryview) -> None:
        self.written.append((self.now, len(data)))
        self.now += self._write_s


def test_bytes_are_written_when_their_last_bit_would_have_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10,000 bytes at 1 MB/s: seven segments, the last with 1,312 bytes; 66 more for each."""
    tape = Tape(monkeypatch)
    planned_at, _ = transfer._paced(tape, memoryview(bytes(10_000)), 5.0, 1e6)  # type: ignore[arg-type]
    assert [count for _, count in tape.written] == [1448] * 6 + [1312]
    due = [5.0 + on_air_bytes(min(1448 * n, 10_000)) / 1e6 for n in range(1, 8)]
    assert planned_at == due[-1] == 5.010462
    assert [at for at, _ in tape.written] == pytest.approx(due, abs=2e-6)


def test_a_fast_link_is_written_in_pieces_of_about_a_millisecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tape = Tape(monkeypatch)
    transfer._paced(tape, memoryview(bytes(100_000)), 0.0, 12.5e6)  # type: ignore[arg-type]
    assert [count for _, count in tape.written] == [8 * 1448] * 8 + [100_000 - 64 * 1448]


def test_a_peer_that_reads_slowly_ends_the_transfer_late(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape(monkeypatch, write_s=1.0)
    planned_at, written_at = transfer._paced(tape, memoryview(bytes(2000)), 0.0, 1e6)  # type: ignore[arg-type]
    assert planned_at == written_at == pytest.approx(2.0, abs=0.01)


def test_another_clock_gives_its_own_time_and_the_sender_keeps_its_own(
    address: tuple[str, int], inbox: Inbox, sender_to: Callable[..., Sender]
) -> None:
    before = time.monotonic()
    served = sent(sender_to(address, clock="boot-2"), a_map(10))
    assert served.reported_at == inbox.next()[2] != served.finish_at
    assert before <= served.finish_at <= time.monotonic()


def test_a_wrong_token_is_refused_with_the_reason(
    address: tuple[str, int], sender_to: Callable[..., Sender]
) -> None:
    with pytest.raises(LostError, match="server1: the transfer was refused: wrong token"):
        sent(sender_to(address, token="other"), a_map(10))


def test_a_refused_map_is_lost_and_the_next_one_arrives(
    address: tuple[str, int], inbox: Inbox, sender_to: Callable[..., Sender]
) -> None:
    sender = sender_to(address)
    with pytest.raises(LostError, match=r"^server1: the transfer was refused: task 13 is unwanted"):
        sent(sender, a_map(10, task=13))
    sent(sender, a_map(10, task=14))
    assert inbox.next()[0].task == 14


def test_a_node_that_does_not_listen_or_exist(sender_to: Callable[..., Sender]) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    sender = sender_to(address)
    with pytest.raises(LostError, match=rf"server1 at 127.0.0.1:{address[1]}: Connection refused"):
        sent(sender, a_map(10))
    with pytest.raises(LostError, match="there is no node 'server2'"):
        sender.send("server2", a_map(0), [], 0.0, 1.0, FAST)


def scripted(converse: Callable[[socket.socket], None]) -> tuple[str, int]:
    """Return the address of a peer that accepts one connection and does as told."""
    listener = listen(("127.0.0.1", 0))

    def run() -> None:
        with listener, listener.accept()[0] as connection:
            converse(connection)

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()


def read_map(connection: socket.socket) -> Message:
    frames.greet(connection, "secret", PATIENCE_S)
    received = frames.receive(connection, Decoder((Map,)))
    assert received is not None
    return received.message


def close_at_once(connection: socket.socket) -> None:
    frames.greet(connection, "secret", PATIENCE_S)


def close_after_the_map(connection: socket.socket) -> None:
    read_map(connection)


def acknowledge_another(connection: socket.socket) -> None:
    read_map(connection)
    frames.send(connection, Ack(task=77, hop=0, finish_at=1.0))


def answer_nonsense(connection: socket.socket) -> None:
    read_map(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


def answer_another_kind(connection: socket.socket) -> None:
    read_map(connection)
    frames.send(connection, Stop())


def refuse(connection: socket.socket) -> None:
    frames.greet(connection, "secret", PATIENCE_S)
    frames.send(connection, Error(message="no room"))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(2**16):
        pass


@pytest.mark.parametrize(
    ("converse", "reason"),
    [
        (close_at_once, r"server1: (Connection reset by peer|Broken pipe|the connection was)"),
        (close_after_the_map, r"server1: (Connection reset by peer|the connection was closed)"),
        (acknowledge_another, r"server1: task 77 was acknowledged\. Expected: task 1"),
        (answer_nonsense, r"server1: no frame of mecsim: begins with b'HTTP'"),
        (answer_another_kind, r"server1: frame stop is not allowed here\. Allowed: ack, error"),
        (refuse, r"server1: the transfer was refused: no room"),
    ],
)
def test_a_peer_that_misbehaves_loses_the_task_with_a_reason(
    sender_to: Callable[..., Sender], converse: Callable[[socket.socket], None], reason: str
) -> None:
    with pytest.raises(LostError, match=reason):
        sent(sender_to(scripted(converse)), a_map(5_000_000))


def test_a_peer_that_does_not_answer_is_given_up(
    sender_to: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE_S", 0.05)
    done = threading.Event()

    def read_and_wait(connection: socket.socket) -> None:
        read_map(connection)
        done.wait(PATIENCE_S)

    sender = sender_to(scripted(read_and_wait))
    with pytest.raises(LostError, match=r"server1: does not answer"):
        sender.send("server1", a_map(10), [memoryview(bytes(10))], time.monotonic(), 0.0, FAST)
    done.set()


def raw_peer(address: tuple[str, int], token: str | None = "secret") -> socket.socket:
    connection = socket.create_connection(address, timeout=PATIENCE_S)
    if token is not None:
        frames.send(connection, Hello(token=token, name="stranger"))
    return connection


def answer(connection: socket.socket) -> str:
    received = frames.receive(connection, Decoder((Error,)))
    assert received is not None
    assert isinstance(received.message, Error)
    return received.message.message


HEADER = frames.HEADER
ATTACKS = {
    "no frame": (None, b"\x16\x03\x01" + bytes(5000), "no frame of mecsim"),
    "no hello": (None, frames.frame(a_map(3)) + bytes(3), "frame map is not allowed here"),
    "token of another run": ("other", b"", "wrong token of 'stranger'"),
    "huge hello": (None, HEADER.pack(b"MECS", 1, 1, 2**20, 0), "at most 4096"),
    "huge map": ("secret", HEADER.pack(b"MECS", 1, 5, 60, 2**62), "at most 1073741824"),
    "not a map": ("secret", frames.frame(Stop()), "frame stop is not allowed here"),
    "length of another shape": (
        "secret",
        HEADER.pack(b"MECS", 1, 5, len(frames.frame(a_map(9))) - 18, 2**30)
        + frames.frame(a_map(9))[18:],
        "payload of 1073741824 bytes. Expected: 9",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_stranger_gets_the_reason_and_holds_up_no_one(
    address: tuple[str, int], inbox: Inbox, sender_to: Callable[..., Sender], name: str
) -> None:
    token, data, reason = ATTACKS[name]
    with raw_peer(address, token) as stranger:
        stranger.sendall(data)
        sent(sender_to(address), a_map(3))
        assert reason in answer(stranger)
        assert stranger.recv(1) == b""
    assert inbox.next()[0].task == 1


def test_slow_and_silent_peers_hold_up_no_one(
    address: tuple[str, int], inbox: Inbox, sender_to: Callable[..., Sender]
) -> None:
    with raw_peer(address, token=None), raw_peer(address) as slow, raw_peer(address) as broken:
        slow_map = frames.frame(a_map(3, task=8)) + bytes(3)
        slow.sendall(slow_map[:30])
        broken.sendall(slow_map[:-1])
        broken.close()
        sent(sender_to(address), a_map(3, task=9))
        assert inbox.next()[0].task == 9
        slow.sendall(slow_map[30:])
        assert inbox.next()[0].task == 8  # nothing of the broken one


def test_the_first_of_too_many_silent_peers_has_to_go(
    address: tuple[str, int], inbox: Inbox, sender_to: Callable[..., Sender]
) -> None:
    silent = [raw_peer(address, token=None) for _ in range(transfer.MOST_GREETINGS)]
    try:
        sent(sender_to(address), a_map(3, task=9))
        assert inbox.next()[0].task == 9
        assert "closed before the hello" in answer(silent[0])
    finally:
        for each in silent:
            each.close()


def test_a_closed_receiver_accepts_no_one(inbox: Inbox) -> None:
    listener = listen(("127.0.0.1", 0))
    address = listener.getsockname()
    Receiver(listener, "secret", inbox).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE_S)
