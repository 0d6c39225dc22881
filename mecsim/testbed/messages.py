"""Frames between the controller and the nodes, and between nodes.

A frame is a header (magic, version, kind, length of the meta data, length of the payload), the meta
data as a JSON object, and a payload of raw bytes. Only maps have a payload. Everything is validated
against the class of its kind before it is used; nothing is unpickled or evaluated.

Times whose names end in ``_at`` are readings of a node's monotonic clock in s. Those that end in
``_s`` are seconds of the scenario.
"""

from __future__ import annotations

import enum
import hmac
import math
import socket
import struct
import time
from collections.abc import Collection
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mecsim.errors import MecsimError
from mecsim.support.validation import first_fault

MAGIC: Final = b"MECS"
VERSION: Final = 1
HEADER: Final = struct.Struct("!4sBBIQ")
"""Magic, version, kind, bytes of the meta data, bytes of the payload; 18 bytes."""
MAX_META: Final = 2**20
MAX_PAYLOAD: Final = 2**30
MAX_HELLO: Final = 2**12
"""Most bytes of meta data of a peer that has not shown the token yet."""

ITEM_BYTES: Final = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes of an element by type; the types of tensors that may be sent."""

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Number: TypeAlias = Annotated[int, Field(ge=0, lt=2**53)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Address: TypeAlias = tuple[Annotated[str, Field(min_length=1, max_length=255)], Number]
"""Host and port."""


class MessageError(MecsimError):
    """A peer sent bytes that are no frame, or a frame that is not allowed there."""


class Kind(enum.IntEnum):
    """The kinds of frames, with their numbers in the header."""

    HELLO = 1
    READY = 2
    START = 3
    RELEASE = 4
    MAP = 5
    ACK = 6
    RECORD = 7
    LOST = 8
    DROPPED = 9
    POLL = 10
    STATE = 11
    PING = 12
    PONG = 13
    STOP = 14
    ERROR = 15


class Message(BaseModel):
    """The meta data of a frame."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[Kind]

    def payload_bytes(self) -> int:
        """Return the length of the payload that belongs to the message."""
        return 0


class Hello(Message):
    """First frame of every connection: shows the token of the run."""

    kind = Kind.HELLO
    token: Name
    name: Name
    """The node that connects."""


class Ready(Message):
    """A node listens for maps."""

    kind = Kind.READY
    name: Name
    address: Address
    """Where it listens."""
    clock: Name
    """Identifies the clock: equal for all processes of one boot of a machine."""


class Peer(NamedTuple):
    """How to reach a node: its address and the identity of its clock."""

    address: Address
    clock: Name


class Start(Message):
    """The run begins."""

    kind = Kind.START
    origin_at: float
    """Time 0 of the scenario on the clock of the node that receives the message."""
    stretch: Annotated[float, Field(gt=0)]
    """Real seconds for one second of the scenario."""
    peers: dict[Name, Peer]
    """All nodes."""


class Hop(NamedTuple):
    """One visit to a station."""

    resource: Number
    block: Number
    """Row among the blocks of all classes."""
    service_s: Seconds
    latency_s: Seconds
    """Propagation after the service."""
    rate_bps: Seconds
    """Rate of a transfer in bits per second of the scenario; 0 for computing."""
    owner: Name
    """The node that has the station."""
    target: Name | None
    """The node that receives the transfer; none for computing."""


class Release(Message):
    """A task and its way. Goes to every node on the way; the owner of hop 0 releases the task."""

    kind = Kind.RELEASE
    task: Number
    task_class: Number
    release_s: Seconds
    drop_s: Seconds | None
    """The task is dropped if its next service has not begun by then."""
    hops: Annotated[tuple[Hop, ...], Field(min_length=1, max_length=4096)]


class Tensor(NamedTuple):
    """Type and shape of a tensor in a payload."""

    dtype: Literal[tuple(ITEM_BYTES)]  # type: ignore[valid-type] # the keys of the table
    shape: Annotated[tuple[Number, ...], Field(max_length=16)]

    def size(self) -> int:
        """Return its length in bytes."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


class Map(Message):
    """A transfer: the payload has the bytes of the tensors, in C order and little-endian."""

    kind = Kind.MAP
    task: Number
    hop: Number
    """Index of the transfer among the task's hops."""
    tensors: Annotated[tuple[Tensor, ...], Field(min_length=1, max_length=256)]

    def payload_bytes(self) -> int:
        """Return the length of all tensors in bytes."""
        return sum(tensor.size() for tensor in self.tensors)


class Ack(Message):
    """A transfer has been received."""

    kind = Kind.ACK
    task: Number
    hop: Number
    finish_at: float
    """When its last byte was read, on the clock of the receiver."""


class Record(Message):
    """A hop has finished. The owner of the station reports it."""

    kind = Kind.RECORD
    task: Number
    hop: Number
    start_at: float
    """On the owner's clock."""
    finish_at: float
    """On the owner's clock; of a transfer, on that of the target."""


class Lost(Message):
    """A task was lost. The controller forwards it to the nodes on the way."""

    kind = Kind.LOST
    task: Number
    hop: Number
    """The hop that was not finished."""
    at: float
    reason: Annotated[str, Field(max_length=2000)]


class Dropped(Message):
    """A task was dropped because it was late; forwarded like `Lost`."""

    kind = Kind.DROPPED
    task: Number
    hop: Number
    """The hop whose service would have begun too late."""
    at: float


class Poll(Message):
    """Ask a node for the state of its stations."""

    kind = Kind.POLL
    number: Number


class State(Message):
    """The state of a node's stations."""

    kind = Kind.STATE
    number: Number
    """That of the poll."""
    at: float
    resources: dict[str, tuple[Seconds, Number]]
    """By number of the resource: how long a job that joined now would wait, in s of the scenario;
    jobs that wait or are in service."""


class Ping(Message):
    """Ask for the time."""

    kind = Kind.PING
    sent_at: float
    """On the clock of the controller."""


class Pong(Message):
    """Answer to a ping."""

    kind = Kind.PONG
    sent_at: float
    """That of the ping."""
    received_at: float
    """When the ping was read, on the node's clock."""


class Stop(Message):
    """End the process of the node."""

    kind = Kind.STOP


class Error(Message):
    """The sender cannot continue, or closes the connection because of what it received."""

    kind = Kind.ERROR
    message: Annotated[str, Field(max_length=2000)]


_CLASSES: Final[dict[int, type[Message]]] = {each.kind: each for each in Message.__subclasses__()}
TO_NODE: Final = (Start, Release, Lost, Dropped, Poll, Ping, Stop)
"""What the controller sends to a node after its hello was accepted."""
TO_CONTROLLER: Final = (Ready, Record, Lost, Dropped, State, Pong, Error)
"""What a node sends to the controller after its hello."""


class Received(NamedTuple):
    """A message and its payload."""

    message: Message
    payload: bytearray


def frame(message: Message) -> bytes:
    """Return the header and the meta data of a frame; the payload is sent behind them."""
    meta = message.model_dump_json().encode()
    return HEADER.pack(MAGIC, VERSION, message.kind, len(meta), message.payload_bytes()) + meta


def send(connection: socket.socket, message: Message) -> None:
    """Send a message without a payload.

    Raises:
        OSError: If the connection is broken.
    """
    connection.sendall(frame(message))


class Decoder:
    """Puts frames together from the bytes of a connection.

    Read at most ``len(space)`` bytes into `space`, then pass their number to `advance`.
    """

    def __init__(self, accepted: Collection[type[Message]], max_meta: int = MAX_META) -> None:
        """Start at the beginning of a frame.

        Args:
            accepted: The messages that are allowed; may be set again between frames.
            max_meta: Most bytes of meta data.
        """
        self.accepted = accepted
        self.max_meta = max_meta
        self._begin()

    def _begin(self) -> None:
        self._class: type[Message] | None = None
        self._message: Message | None = None
        self._payload_bytes = 0
        self._expect(HEADER.size)

    def _expect(self, size: int) -> None:
        self._part = bytearray(size)
        self.space = memoryview(self._part)
        """Where the next bytes belong."""

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._class is not None or len(self.space) < len(self._part)

    def advance(self, count: int) -> Received | None:
        """Take bytes that were read into `space`.

        Args:
            count: Their number.

        Returns:
            The message, if it is complete.

        Raises:
            MessageError: If the bytes are no frame, or one that is not accepted.
        """
        self.space = self.space[count:]
        while not self.space:
            if self._class is None:
                self._class, meta_bytes = self._header()
                self._expect(meta_bytes)
            elif self._message is None:
                self._message = self._meta(self._class)
                self._expect(self._payload_bytes)
            else:
                received = Received(self._message, self._part)
                self._begin()
                return received
        return None

    def _header(self) -> tuple[type[Message], int]:
        magic, version, kind, meta_bytes, self._payload_bytes = HEADER.unpack(self._part)
        if magic != MAGIC:
            raise MessageError(f"no frame of mecsim: begins with {magic!r}. Expected: {MAGIC!r}")
        if version != VERSION:
            raise MessageError(
                f"frame of version {version}. Expected: {VERSION}. "
                "Try: install the same version of mecsim on all machines"
            )
        expected = _CLASSES.get(kind)
        if expected is None or expected not in self.accepted:
            name = f"kind {kind}" if expected is None else expected.__name__.lower()
            allowed = ", ".join(each.__name__.lower() for each in self.accepted)
            raise MessageError(f"frame {name} is not allowed here. Allowed: {allowed}")
        _check_length("meta data", meta_bytes, self.max_meta)
        _check_length("payload", self._payload_bytes, MAX_PAYLOAD if expected is Map else 0)
        return expected, meta_bytes

    def _meta(self, expected: type[Message]) -> Message:
        where = f"frame {expected.__name__.lower()}"
        try:
            message = expected.model_validate_json(self._part)
        except ValidationError as error:
            raise MessageError(f"{where}: {first_fault(error)}") from error
        if message.payload_bytes() != self._payload_bytes:
            raise MessageError(
                f"{where}: payload of {self._payload_bytes} bytes. "
                f"Expected: {message.payload_bytes()}, by the types and shapes of its tensors"
            )
        return message


def _check_length(part: str, length: int, most: int) -> None:
    if length > most:
        raise MessageError(f"frame with {length} bytes of {part}. Allowed: at most {most}")


def receive(
    connection: socket.socket, decoder: Decoder, deadline_at: float | None = None
) -> Received | None:
    """Read one frame from a blocking connection.

    Args:
        connection: The connection.
        decoder: The decoder of the connection.
        deadline_at: When the frame must be complete, on the monotonic clock; never by default.

    Returns:
        The message, or none if the peer closed the connection between two frames.

    Raises:
        MessageError: If the peer sent something else, or closed the connection inside a frame.
        TimeoutError: If the frame is not complete at the deadline.
        OSError: If the connection is broken.
    """
    while True:
        if deadline_at is not None:
            left_s = deadline_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out")
            connection.settimeout(left_s)
        count = connection.recv_into(decoder.space)
        if not count:
            if decoder.inside:
                raise MessageError("the connection was closed in the middle of a frame")
            return None
        received = decoder.advance(count)
        if received is not None:
            return received


def greet(connection: socket.socket, token: str, limit_s: float) -> str:
    """Wait for the hello of a peer that has connected, and check its token.

    Leaves the connection without a time limit.

    Args:
        connection: The connection.
        token: The token of the run.
        limit_s: How long to wait for the hello.

    Returns:
        The name that the peer gives.

    Raises:
        MessageError: If the peer sends something else, a wrong token, or nothing in time.
        OSError: If the connection is broken.
    """
    decoder = Decoder((Hello,), MAX_HELLO)
    try:
        received = receive(connection, decoder, time.monotonic() + limit_s)
    except TimeoutError as error:
        raise MessageError(f"no hello within {limit_s:g} s") from error
    if received is None or not isinstance(received.message, Hello):
        raise MessageError("the connection was closed before the hello")
    hello = received.message
    if not hmac.compare_digest(hello.token.encode(), token.encode()):
        raise MessageError(f"wrong token of {hello.name!r}. Expected: the token of this run")
    connection.settimeout(None)
    return hello.name
