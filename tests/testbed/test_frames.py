"""Frames: what is sent arrives, and wrong bytes give a clear error."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecsim.testbed import frames
from mecsim.testbed.frames import (
    HEADER,
    MAGIC,
    MAX_META,
    MAX_PAYLOAD,
    VERSION,
    Decoder,
    MessageError,
)
from mecsim.testbed.messages import (
    Ack,
    Dropped,
    Error,
    Fill,
    Hello,
    Hop,
    Kind,
    Lost,
    Map,
    Message,
    Peer,
    Ping,
    Poll,
    Pong,
    Ready,
    Record,
    Release,
    Start,
    State,
    Stop,
    Tensor,
)

HOPS = (
    Hop(4, 0, 0.018, 0.0, 0.0, "device0", None),
    Hop(7, 0, 0.002, 1e-3, 5e6, "device0", "server1"),
)
EXAMPLES = (
    Hello(token="secret", name="device0"),
    Ready(name="device0", address=("127.0.0.1", 40000), clock="boot-1", pid=7),
    Start(origin_at=12.5, stretch=1.0, peers={"server1": Peer(("::1", 1), "boot-1")}),
    Release(task=3, task_class=0, release_s=0.25, drop_s=None, hops=HOPS),
    Map(task=3, hop=1, tensors=(Tensor("float32", (1, 2)), Tensor("uint8", (3,)))),
    Ack(task=3, hop=1, finish_at=12.75),
    Record(task=3, hop=0, joined_at=12.25, start_at=12.5, begun_at=12.5, finish_at=12.625),
    Lost(task=3, hop=1, at=13.0, reason="server1: the connection was closed"),
    Dropped(task=3, hop=1, at=13.0),
    Poll(number=9),
    State(number=9, at=13.0, resources={"4": (0.5, 2)}),
    Ping(sent_at=1.0),
    Pong(sent_at=1.0, received_at=2.0),
    Stop(),
    Error(message="no"),
    Fill(count=5),
)
EVERYTHING = tuple(type(example) for example in EXAMPLES)
A_MAP = next(example for example in EXAMPLES if isinstance(example, Map))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


def raw(
    kind: int,
    meta: bytes,
    payload: bytes = b"",
    *,
    magic: bytes = MAGIC,
    version: int = VERSION,
    lengths: tuple[int, int] | None = None,
) -> bytes:
    sizes = lengths or (len(meta), len(payload))
    return HEADER.pack(magic, version, kind, *sizes) + meta + payload


def decoded(data: bytes, accepted: tuple[type[Message], ...] = EVERYTHING) -> Message:
    """Decode one frame, in the pieces for which the decoder asks."""
    decoder, at = Decoder(accepted), 0
    while at < len(data):
        count = min(len(decoder.space), len(data) - at)
        decoder.space[:count] = data[at : at + count]
        at += count
        received = decoder.advance(count)
        if received is not None:
            return received.message
    raise AssertionError("no complete frame")


def test_every_kind_has_one_class_and_an_example() -> None:
    assert sorted(example.kind for example in EXAMPLES) == sorted(Kind)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    payload = bytes(range(message.payload_bytes()))
    assert decoded(frames.frame(message) + payload) == message


@given(
    st.lists(st.sampled_from(EXAMPLES), max_size=6),
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_frames_are_found_in_a_stream_that_arrives_in_any_pieces(
    sent: list[Message], sizes: list[int]
) -> None:
    stream = b"".join(frames.frame(each) + bytes(each.payload_bytes()) for each in sent)
    decoder, found, at, size = Decoder(EVERYTHING), [], 0, cycle(sizes)
    while at < len(stream):
        count = min(len(decoder.space), len(stream) - at, next(size))
        decoder.space[:count] = stream[at : at + count]
        at += count
        received = decoder.advance(count)
        if received is not None:
            found.append(received.message)
    assert found == sent
    assert not decoder.inside


def test_a_map_brings_its_payload(pair: tuple[socket.socket, socket.socket]) -> None:
    payload = bytes(range(11))
    pair[0].sendall(frames.frame(A_MAP) + payload)
    assert frames.receive(pair[1], Decoder((Map,))) == (A_MAP, bytearray(payload))


def _release(hops: str) -> bytes:
    start = '{"task": 1, "task_class": 0, "release_s": 0, "drop_s": null, "hops": ['
    return raw(Kind.RELEASE, f"{start}{hops}]}}".encode())


WRONG = {
    "another protocol": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "begins with b'GET '"),
    "version": (raw(Kind.STOP, b"{}", version=9), "version 9. Expected: 1"),
    "unknown kind": (raw(77, b"{}"), "kind 77 is not allowed here. Allowed: hello"),
    "too much meta data": (
        raw(Kind.STOP, b"", lengths=(2**32 - 1, 0)),
        f"4294967295 bytes of meta data. Allowed: at most {MAX_META}",
    ),
    "too much payload": (
        raw(Kind.MAP, b"", lengths=(2, 2**63)),
        f"{2**63} bytes of payload. Allowed: at most {MAX_PAYLOAD}",
    ),
    "payload where there is none": (raw(Kind.STOP, b"{}", b"x"), "1 bytes of payload"),
    "no JSON": (raw(Kind.POLL, b"\xff\x00"), "frame poll: the document"),
    "JSON that is no object": (raw(Kind.POLL, b"[1]"), "frame poll: the document"),
    "empty meta data": (raw(Kind.POLL, b""), "frame poll: the document"),
    "deep JSON": (raw(Kind.POLL, b"[" * 100_000), "frame poll: the document"),
    "missing key": (raw(Kind.POLL, b"{}"), "frame poll: number: is missing"),
    "unknown key": (raw(Kind.STOP, b'{"now": 1}'), "frame stop: now"),
    "wrong type": (raw(Kind.POLL, b'{"number": "1"}'), "frame poll: number: '1'"),
    "negative number": (raw(Kind.POLL, b'{"number": -1}'), "frame poll: number: -1"),
    "infinite time": (raw(Kind.PING, b'{"sent_at": 1e999}'), "frame ping: sent_at"),
    "not a time": (raw(Kind.PING, b'{"sent_at": NaN}'), "frame ping: sent_at"),
    "unknown type of tensor": (
        raw(Kind.MAP, b'{"task": 1, "hop": 0, "tensors": [["object", [1]]]}'),
        "frame map: tensors.0.",
    ),
    "negative shape": (
        raw(Kind.MAP, b'{"task": 1, "hop": 0, "tensors": [["uint8", [-1]]]}'),
        "frame map: tensors.0.",
    ),
    "a way with a gap": (
        _release('[4,0,1,0,0,"a",null],[5,0,1,0,0,"b",null]'),
        "hop 1 is owned by 'b'. Expected: 'a'",
    ),
    "a transfer without a rate": (
        _release('[4,0,1,0,0,"a","b"]'),
        "hop 0 needs a target and a rate, or none of both",
    ),
    "no hops": (_release(""), "frame release: hops: "),
    "shape that does not fit the payload": (
        raw(Kind.MAP, b'{"task": 1, "hop": 0, "tensors": [["float32", [2]]]}', b"1234567"),
        "payload of 7 bytes. Expected: 8",
    ),
    "shape that is astronomically large": (
        raw(Kind.MAP, b'{"task": 1, "hop": 0, "tensors": [["uint8", [9000000000, 9000000000]]]}'),
        "payload of 0 bytes. Expected: 81000000000000000000",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bytes_are_refused_with_the_reason(name: str) -> None:
    data, reason = WRONG[name]
    with pytest.raises(MessageError) as raised:
        decoded(data)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_kind_is_refused_where_it_does_not_belong() -> None:
    with pytest.raises(MessageError, match=r"frame stop is not allowed here\. Allowed: map"):
        decoded(frames.frame(Stop()), (Map,))


def test_memory_is_not_allocated_before_shapes_were_checked() -> None:
    meta = b'{"task": 1, "hop": 0, "tensors": [["uint8", [1]]]}'
    with pytest.raises(MessageError, match="Expected: 1, by the types"):
        decoded(raw(Kind.MAP, meta, lengths=(len(meta), MAX_PAYLOAD)))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    for prefix in (b"", MAGIC, HEADER.pack(MAGIC, VERSION, Kind.MAP, 40, 8)):
        with contextlib.suppress(MessageError, AssertionError):
            decoded(prefix + data)


@given(st.sampled_from(EXAMPLES), st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_never_raises_anything_else(
    message: Message, place: int, value: int
) -> None:
    data = bytearray(frames.frame(message) + bytes(message.payload_bytes()))
    data[place % len(data)] = value
    with contextlib.suppress(MessageError, AssertionError):
        decoded(bytes(data))


@pytest.mark.parametrize("kept", [1, HEADER.size, HEADER.size + 3, -1])
def test_a_truncated_frame_is_an_error(
    pair: tuple[socket.socket, socket.socket], kept: int
) -> None:
    pair[0].sendall((frames.frame(A_MAP) + bytes(11))[:kept])
    pair[0].close()
    with pytest.raises(MessageError, match="closed in the middle of a frame"):
        frames.receive(pair[1], Decoder((Map,)))


def test_a_close_between_frames_is_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    frames.send(pair[0], Stop())
    pair[0].close()
    decoder = Decoder((Stop,))
    assert frames.receive(pair[1], decoder) == (Stop(), bytearray())
    assert frames.receive(pair[1], decoder) is None


def test_the_hello_gives_the_name(pair: tuple[socket.socket, socket.socket]) -> None:
    frames.send(pair[0], Hello(token="täglich", name="device0"))
    assert frames.greet(pair[1], "täglich", 10) == "device0"
    assert pair[1].gettimeout() is None


def test_another_token_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    frames.send(pair[0], Hello(token="other", name="device0"))
    with pytest.raises(MessageError, match="wrong token of 'device0'"):
        frames.greet(pair[1], "secret", 10)


def test_without_a_hello_nothing_else_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(frames.frame(A_MAP))
    with pytest.raises(MessageError, match=r"map is not allowed here\. Allowed: hello"):
        frames.greet(pair[1], "secret", 10)


def test_a_long_hello_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    meta = json.dumps({"token": "x" * 5000, "name": "device0"}).encode()
    pair[0].sendall(raw(Kind.HELLO, meta))
    with pytest.raises(MessageError, match="Allowed: at most 4096"):
        frames.greet(pair[1], "secret", 10)


def test_a_peer_that_closes_at_once_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(MessageError, match="closed before the hello"):
        frames.greet(pair[1], "secret", 10)


def test_a_hello_byte_by_byte_runs_into_the_limit(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is on the whole hello: a peer that sends a byte now and then cannot stretch it."""
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    pair[0].sendall(HEADER.pack(MAGIC, VERSION, Kind.HELLO, 40, 0)[:-1])
    with pytest.raises(MessageError, match=r"no hello within 1\.5 s"):
        frames.greet(pair[1], "secret", 1.5)


def test_the_header_has_eighteen_bytes() -> None:
    assert frames.frame(Stop())[:18] == b"MECS\x01\x0e\x00\x00\x00\x02" + bytes(8)
