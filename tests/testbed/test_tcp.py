"""TCP between machines: one address only, and options of connections."""

from __future__ import annotations

import socket

import pytest

from mecsim.errors import InputError
from mecsim.testbed import tcp


def test_listens_at_one_address() -> None:
    with tcp.listen("127.0.0.1", 1) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with socket.create_connection((host, port), timeout=10) as connection:
            tcp.set_options(connection)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(InputError, match=r"cannot listen at 203\.0\.113\.7: .*Expected: the addr"):
        tcp.listen("203.0.113.7", 1)


def test_sockets_of_one_machine_stay_as_they_are() -> None:
    one, other = socket.socketpair()
    with one, other:
        tcp.set_options(one)
