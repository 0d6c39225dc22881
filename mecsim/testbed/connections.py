"""The controller's connections with the nodes: a thread reads them, the run sends and takes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from queue import Empty, SimpleQueue
from typing import Final

from mecsim.testbed import tcp
from mecsim.testbed.frames import Decoder, MessageError, frame, greet
from mecsim.testbed.messages import TO_CONTROLLER, Error, Message
from mecsim.testbed.pool import Event, NodeEnded

_HELLO_S: Final = 10.0
_SEND_S: Final = 30.0
"""How long a node may not read."""
_MOST_GREETINGS: Final = 64
"""Connections at a time that have not shown the token."""


class Connections:
    """Accepts the connections of nodes and reads what they send.

    Args:
        listener: A socket that listens; belongs to the connections.
        token: The token of the run.
        names: The nodes that are expected.
        reason: Returns why the process of a node has ended, as far as known.
    """

    def __init__(
        self,
        listener: socket.socket,
        token: str,
        names: Collection[str],
        reason: Callable[[str], str],
    ) -> None:
        self._listener, self._token, self._names = listener, token, frozenset(names)
        self._reason = reason
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._sockets: dict[str, socket.socket] = {}
        self._lock = threading.Lock()
        self._ended: set[str] = set()
        self._closed = False
        self._greetings = threading.BoundedSemaphore(_MOST_GREETINGS)
        self._selector = selectors.DefaultSelector()
        self._wake, waker = socket.socketpair()
        self._waker = waker
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._threads = [
            threading.Thread(target=work, name=f"testbed-{work.__name__[1:]}", daemon=True)
            for work in (self._accept, self._read)
        ]
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------ for the run

    def send(self, names: Iterable[str], message: Message) -> None:
        """Send a message to nodes; those that have ended are left out."""
        data = frame(message)
        for name in names:
            connection = self._sockets.get(name)
            if connection is None or name in self._ended:
                continue
            try:
                connection.sendall(data)
            except TimeoutError:
                self._end(name, f"has not read for {_SEND_S:.0f} s")
            except OSError as error:
                self._end(name, error.strerror or str(error))

    def take(self, limit_s: float) -> Event | None:
        """Return the next event; None if none comes in time."""
        try:
            if limit_s <= 0.0:
                return self._events.get_nowait()
            return self._events.get(timeout=limit_s)
        except Empty:
            return None

    def close(self) -> None:
        """Close all connections: nodes end."""
        self._closed = True
        for each in (self._listener, self._waker):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()
        with self._lock:
            for connection in self._sockets.values():
                connection.close()
        self._wake.close()
        self._selector.close()

    # ------------------------------------------------------------ in threads

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed, or the peer is gone already
                continue
            if not self._greetings.acquire(blocking=False):
                connection.close()
                continue
            greeting = threading.Thread(target=self._greet, args=(connection,), daemon=True)
            greeting.start()

    def _greet(self, connection: socket.socket) -> None:
        """Take a connection that shows the token and the name of a node that is expected."""
        try:
            name = greet(connection, self._token, _HELLO_S)
            with self._lock:
                expected = name in self._names and name not in self._sockets
                if expected and not self._closed:
                    connection.settimeout(_SEND_S)
                    tcp.set_options(connection)
                    self._sockets[name] = connection
                    source = connection, name, Decoder(TO_CONTROLLER)
                    self._selector.register(connection, selectors.EVENT_READ, source)
                    self._waker.send(b"\0")  # the selector begins to watch it
                    return
            problem = f"node {name!r} is not expected, or connected already"
            connection.sendall(frame(Error(message=problem)))
            connection.close()
        except (MessageError, OSError):
            connection.close()
        finally:
            self._greetings.release()

    def _read(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._wake.recv(64)
                else:
                    self._read_some(*key.data)

    def _read_some(self, connection: socket.socket, name: str, decoder: Decoder) -> None:
        try:
            count = connection.recv_into(decoder.space)
            if not count:
                self._end(name, "", connection)
                return
            received = decoder.advance(count)
        except (MessageError, OSError) as error:
            self._end(name, str(error), connection)
            return
        if received is not None:
            self._events.put(Event(name, received.message))

    def _end(self, name: str, problem: str, connection: socket.socket | None = None) -> None:
        """Report the end of a node once."""
        if connection is not None:
            self._selector.unregister(connection)
        with self._lock:
            if name in self._ended or self._closed:
                return
            self._ended.add(name)
        reason = self._reason(name) or problem or "closed its connection"
        self._events.put(Event(name, NodeEnded(reason)))
