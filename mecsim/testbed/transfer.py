"""Transfers of maps over TCP: a sender that keeps to the rate of its link, and the receiver.

The receiver reads a map, notes the time of its last byte and acknowledges it with that time. A
connection carries the maps of one link, one at a time.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mecsim.testbed.clock import wait_until
from mecsim.testbed.frames import Decoder, MessageError, frame, greet, receive, send
from mecsim.testbed.messages import Ack, Error, Fill, Hello, Map, Peer
from mecsim.testbed.shaping import filling_bytes
from mecsim.testbed.stations import LostError, Served

SEGMENT_BYTES: Final = 1448
"""Payload of a TCP segment with time stamps in an Ethernet frame."""
HEADER_BYTES: Final = 66
"""Ethernet, IPv4 and TCP headers of a segment."""
PATIENCE_S: Final = 30.0
"""How long a connected peer may neither read nor acknowledge."""
_CHUNK_S: Final = 1e-3
"""Pacing writes at most once in this time, except that it writes whole segments."""
_PIECE_BYTES: Final = 2**14
_FILL_BYTES: Final = len(frame(Fill(count=1000)))
_MORE: Final = getattr(socket, "MSG_MORE", 0)
"""Flag of a write that another one follows: the last packet waits until it is full."""
_HELLO_S: Final = 10.0
_REFUSAL_S: Final = 1.0
"""How long to wait for the reason of a refusal, and for the peer to read it."""
MOST_GREETINGS: Final = 64
"""Most connections whose hello has not come."""


def on_air_bytes(sent: int) -> int:
    """Return the bytes on a link for bytes that are written to a socket.

    >>> on_air_bytes(1448), on_air_bytes(1449)
    (1514, 1581)
    """
    return sent + HEADER_BYTES * math.ceil(sent / SEGMENT_BYTES)


class Sender:
    """Sends maps to other nodes, for one link."""

    def __init__(self, name: str, token: str, peers: Mapping[str, Peer], clock: str) -> None:
        """Make a sender without connections.

        Args:
            name: Name of the own node.
            token: Token of the run.
            peers: The nodes by name.
            clock: Identity of the own clock.
        """
        self._name, self._token, self._peers, self._clock = name, token, peers, clock
        self._connections: dict[str, socket.socket] = {}
        self._finish_at: dict[str, float] = {}  # of the last transfer to each target

    def send(
        self,
        target: str,
        header: Map,
        payload: Sequence[memoryview],
        start_at: float,
        service_s: float,
        bytes_per_s: float,
        shaped: bool = False,
    ) -> Served:
        """Send a map and wait until it has been received.

        Args:
            target: The node that receives it.
            header: Describes the payload.
            payload: The bytes of each tensor.
            start_at: When the transfer starts; may have passed.
            service_s: Expected duration; the target gets more time before it counts as dead.
            bytes_per_s: Rate of the link in bytes with headers per real second.
            shaped: Write at full speed, because the operating system shapes the link.

        Returns:
            The end of the transfer: planned, and by the receiver's clock. Where the receiver has
            another clock, the end of the last write counts, or the acknowledgement if shaped.

        Raises:
            LostError: If the target cannot be reached or refuses the map.
        """
        try:
            connection = self._connection(target)
            filling = self._filling(target, start_at, bytes_per_s) if shaped else b""
            parts: list[bytes | memoryview] = [filling + frame(header), *payload]
            patience_s = PATIENCE_S + 2 * service_s
            connection.settimeout(patience_s)
            planned_at, written_at = _written(
                connection, parts, start_at, None if shaped else bytes_per_s
            )
            ack = _acknowledged(connection, header, patience_s)
        except (OSError, MessageError) as error:
            self._forget(target)
            raise LostError(f"{target}: {_reason(error)}") from error
        if self._peers[target].clock == self._clock:
            finish_at = ack.finish_at
        else:
            finish_at = time.monotonic() if shaped else written_at
        self._finish_at[target] = finish_at
        free_at = finish_at if planned_at is None else planned_at
        return Served(free_at, finish_at, ack.finish_at)

    def _filling(self, target: str, start_at: float, bytes_per_s: float) -> bytes:
        """Return a frame that takes what the bucket of a shaped link got before a transfer."""
        idle_s = start_at - self._finish_at.get(target, -math.inf)
        on_air = filling_bytes(bytes_per_s, idle_s)
        packets = math.ceil(on_air / (SEGMENT_BYTES + HEADER_BYTES))
        filling = Fill(count=max(0, on_air - HEADER_BYTES * packets - _FILL_BYTES))
        return frame(filling) + bytes(filling.count) if filling.count else b""

    def close(self) -> None:
        """Close all connections."""
        for target in list(self._connections):
            self._forget(target)

    def _connection(self, target: str) -> socket.socket:
        if target in self._connections:
            return self._connections[target]
        if target not in self._peers:
            raise LostError(f"there is no node {target!r}")
        address = self._peers[target].address
        try:
            connection = socket.create_connection(address, timeout=PATIENCE_S)
        except OSError as error:
            raise LostError(
                f"{target} at {':'.join(map(str, address))}: {_reason(error)}"
            ) from error
        self._connections[target] = connection
        _set_options(connection)
        send(connection, Hello(token=self._token, name=self._name))
        return connection

    def _forget(self, target: str) -> None:
        if target in self._connections:
            self._connections.pop(target).close()


def _set_options(connection: socket.socket) -> None:
    """Send at once; give up a peer whose machine does not answer."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        limit_ms = int(1000 * PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)


def _written(
    connection: socket.socket,
    parts: Sequence[bytes | memoryview],
    start_at: float,
    bytes_per_s: float | None,
) -> tuple[float | None, float]:
    """Write a frame; return the planned end, if there is one, and the time of the last write.

    Each chunk is written when its last bit would have left. A frame that is written later than
    planned, because the peer reads slowly, ends with its last write.
    """
    try:
        if bytes_per_s is None:
            _write_at_once(connection, parts)
            return None, time.monotonic()
        return _paced(connection, memoryview(b"".join(parts)), start_at, bytes_per_s)
    except OSError:
        _acknowledged(
            connection, None, _REFUSAL_S
        )  # the peer's reason explains more than a broken pipe
        raise


def _write_at_once(connection: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    """Write parts as if they were one, without copying them first: that takes time of a link."""
    pieces = [
        memoryview(part)[at : at + _PIECE_BYTES]  # a time limit for each
        for part in parts
        for at in range(0, len(part), _PIECE_BYTES)
    ]
    for piece in pieces[:-1]:
        connection.sendall(piece, _MORE)
    connection.sendall(pieces[-1])


def _paced(
    connection: socket.socket, data: memoryview, start_at: float, bytes_per_s: float
) -> tuple[float, float]:
    chunk = SEGMENT_BYTES * max(1, int(bytes_per_s * _CHUNK_S / SEGMENT_BYTES))
    last = (len(data) - 1) // chunk * chunk
    for at in range(0, last, chunk):
        due_at = start_at + on_air_bytes(at + chunk) / bytes_per_s
        time.sleep(max(0.0, due_at - time.monotonic()))
        connection.sendall(data[at : at + chunk])
    due_at = start_at + on_air_bytes(len(data)) / bytes_per_s
    in_time = wait_until(due_at)
    connection.sendall(data[last:])
    written_at = time.monotonic()
    return due_at if in_time else written_at, written_at


def _acknowledged(connection: socket.socket, header: Map | None, patience_s: float) -> Ack:
    """Return the acknowledgement of a map; raise `MessageError` with the reason of a refusal."""
    received = receive(connection, Decoder((Ack, Error)), time.monotonic() + patience_s)
    if received is None:
        raise MessageError("the connection was closed")
    message = received.message
    if isinstance(message, Error):
        raise MessageError(f"the transfer was refused: {message.message}")
    if header is None or not isinstance(message, Ack):
        raise MessageError("an acknowledgement came before the end of a transfer")
    if (message.task, message.hop) != (header.task, header.hop):
        raise MessageError(f"task {message.task} was acknowledged. Expected: task {header.task}")
    return message


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "does not answer"
    return getattr(error, "strerror", None) or str(error)


Take = Callable[[Map, bytearray, float], None]
"""Takes a map, its payload and the time of its last byte; raises ``MessageError`` to refuse it."""


def listen(address: tuple[str, int]) -> socket.socket:
    """Return a socket that listens at a host and a port.

    Raises:
        OSError: If that is not possible.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=128)


class Receiver:
    """Receives maps: a thread that accepts connections and one for each connection.

    A peer that sends anything else gets an error and is disconnected. It holds up no one else.
    """

    def __init__(self, listener: socket.socket, token: str, take: Take) -> None:
        """Begin to accept connections.

        Args:
            listener: A socket that listens; belongs to the receiver.
            token: Token of the run, which every peer must show.
            take: Takes the maps; called by the threads of connections.
        """
        self._listener, self._token, self._take = listener, token, take
        self._greeting: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name="receiver", daemon=True).start()

    def close(self) -> None:
        """Accept no further connections."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # of the peer, or no file descriptors are left
                time.sleep(0.01)
                continue
            self._admit(connection)
            threading.Thread(
                target=self._converse, args=(connection,), name="connection", daemon=True
            ).start()

    def _admit(self, connection: socket.socket) -> None:
        """Wait for the hello of one more; of too many that are silent, the first has to go."""
        with self._lock:
            if len(self._greeting) >= MOST_GREETINGS:
                silent = next(iter(self._greeting))
                del self._greeting[silent]
                with contextlib.suppress(OSError):
                    silent.shutdown(socket.SHUT_RD)  # its thread closes it
            self._greeting[connection] = None

    def _converse(self, connection: socket.socket) -> None:
        """Read maps until the peer closes the connection."""
        with connection:
            try:
                try:
                    _set_options(connection)
                    greet(connection, self._token, _HELLO_S)
                finally:
                    with self._lock:
                        self._greeting.pop(connection, None)
                decoder = Decoder((Map, Fill))
                while (received := receive(connection, decoder)) is not None:
                    finish_at = time.monotonic()
                    message = received.message
                    if not isinstance(message, Map):
                        continue
                    self._take(message, received.payload, finish_at)
                    send(connection, Ack(task=message.task, hop=message.hop, finish_at=finish_at))
            except MessageError as error:
                _refuse(connection, str(error))
            except OSError:  # the peer is gone
                pass


def _refuse(connection: socket.socket, reason: str) -> None:
    """Send an error and wait shortly until the peer has read it.

    A connection that is closed with bytes that were not read is reset, and the error is lost.
    """
    end_at = time.monotonic() + _REFUSAL_S
    with contextlib.suppress(OSError):
        connection.settimeout(_REFUSAL_S)
        send(connection, Error(message=reason[:2000]))
        connection.shutdown(socket.SHUT_WR)
        while time.monotonic() < end_at and connection.recv(2**16):
            pass
