"""TCP connections between the controller and nodes on other machines."""

from __future__ import annotations

import socket
from typing import Final

from mecsim.errors import InputError

_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def set_options(connection: socket.socket) -> None:
    """Send small messages at once; notice within 20 s that the machine of the peer is gone.

    Sockets of one machine are left as they are.
    """
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(address: str, backlog: int) -> socket.socket:
    """Listen at one address of this machine, on a free port.

    Args:
        address: The address; other ones of the machine are not reached.
        backlog: Connections that may wait to be accepted.

    Raises:
        InputError: The machine does not have the address.
    """
    listener = socket.socket()
    try:
        listener.bind((address, 0))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise InputError(
            f"--engine ray: cannot listen at {address}: {error.strerror or error}. "
            "Expected: the address of this machine in the Ray cluster"
        ) from error
    return listener
