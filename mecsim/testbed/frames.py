"""Messages as frames of bytes on a connection.

A frame is a header (magic, version, kind, length of the meta data, length of the payload), the meta
data as a JSON object, and a payload of raw bytes. Only maps and fillings have a payload. Everything
is validated against the class of its kind before it is used; nothing is unpickled or evaluated.
"""

from __future__ import annotations

import hmac
import socket
import struct
import time
from collections.abc import Collection
from typing import Final, NamedTuple

from pydantic import ValidationError

from mecsim.errors import MecsimError
from mecsim.support.validation import first_fault
from mecsim.testbed.messages import CLASSES, Fill, Hello, Map, Message

MAGIC: Final = b"MECS"
VERSION: Final = 1
HEADER: Final = struct.Struct("!4sBBIQ")
"""Magic, version, kind, bytes of the meta data, bytes of the payload; 18 bytes."""
MAX_META: Final = 2**20
MAX_PAYLOAD: Final = 2**30
MAX_HELLO: Final = 2**12
"""Most bytes of meta data of a peer that has not shown the token yet."""


class MessageError(MecsimError):
    """A peer sent bytes that are no frame, or a frame that is not allowed there."""


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
        expected = CLASSES.get(kind)
        if expected is None or expected not in self.accepted:
            name = f"kind {kind}" if expected is None else expected.__name__.lower()
            allowed = ", ".join(each.__name__.lower() for each in self.accepted)
            raise MessageError(f"frame {name} is not allowed here. Allowed: {allowed}")
        _check_length("meta data", meta_bytes, self.max_meta)
        _check_length("payload", self._payload_bytes, MAX_PAYLOAD if expected in (Map, Fill) else 0)
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
