"""Nodes whose clocks differ: pings in the same process, with clocks of known offsets."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable

import pytest

from mecsim.errors import NodeFailedError
from mecsim.testbed import synchronized
from mecsim.testbed.messages import Lost, Message, Ping, Pong, Ready
from mecsim.testbed.pool import Event, NodeEnded
from mecsim.testbed.synchronized import PINGS, SynchronizedPool

OFFSET_S = 1000.0


class Channel:
    """Answers pings of nodes at once, by a clock that is ahead of this machine's."""

    def __init__(self, silent: Iterable[str] = ()) -> None:
        self.pinged: list[str] = []
        self.events: deque[Event] = deque()
        self.silent = set(silent)

    def send(self, names: Iterable[str], message: Message) -> None:
        """Answer."""
        for name in names:
            assert isinstance(message, Ping)
            self.pinged.append(name)
            if name not in self.silent:
                read_at = time.monotonic() + OFFSET_S
                pong = Pong(sent_at=message.sent_at, received_at=read_at)
                self.events.append(Event(name, pong))

    def take(self, limit_s: float) -> Event | None:
        """Return the next answer."""
        return self.events.popleft() if self.events else None


def ready(**clocks: str) -> dict[str, Ready]:
    return {
        name: Ready(name=name, address=(f"10.0.0.{k}", 9000), clock=clock, pid=k)
        for k, (name, clock) in enumerate(clocks.items(), 1)
    }


def pool_of(channel: Channel) -> SynchronizedPool:
    return SynchronizedPool(channel, ready(device0="mine", es1="other", es2="other"), "mine")


def test_clocks_are_measured_once_each() -> None:
    channel = Channel()
    pool = pool_of(channel)
    pool.measure()
    assert channel.pinged == ["es1"] * PINGS
    facts = pool.facts()["clocks"]
    assert facts["10.0.0.1"] == {"offset_s": 0.0, "error_s": 0.0}
    error_s = facts["10.0.0.2"]["error_s"]
    assert facts["10.0.0.2"] == facts["10.0.0.3"]
    assert abs(facts["10.0.0.2"]["offset_s"] - OFFSET_S) <= error_s + 1e-9
    for name in ("es1", "es2"):
        assert abs(pool.there(name, 50.0) - 1050.0) <= error_s + 1e-9
        assert abs(pool.here(name, 1050.0) - 50.0) <= error_s + 1e-9
    assert pool.here("device0", 50.0) == pool.there("device0", 50.0) == 50.0


def test_a_measurement_after_the_run() -> None:
    pool = pool_of(Channel())
    pool.measure()
    pool.measure()
    facts = pool.facts()["clocks"]["10.0.0.2"]
    assert abs(facts["after"]["offset_s"] - OFFSET_S) <= facts["after"]["error_s"] + 1e-9
    assert "drift_ppm" in facts


def test_another_node_of_the_machine_answers() -> None:
    channel = Channel(silent=["es1"])
    pool = pool_of(channel)
    pool.measure()
    assert channel.pinged == ["es1"] + ["es2"] * PINGS
    assert pool.here("es1", OFFSET_S) == pytest.approx(0.0, abs=0.1)


def test_no_node_of_the_machine_answers() -> None:
    with pytest.raises(NodeFailedError, match="node es1: does not answer pings"):
        pool_of(Channel(silent=["es1", "es2"])).measure()


def test_other_events_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run a node ends: the kernel learns that, and the other one is pinged."""
    monkeypatch.setattr(synchronized, "PERIOD_S", math.inf)
    channel = Channel()
    ended, lost = NodeEnded("was killed"), Lost(task=0, hop=0, at=0.0, reason="test")
    channel.events += [Event("device0", lost), Event("es1", ended)]
    pool = pool_of(channel)
    pool.measure()
    assert [pool.take(0.0), pool.take(0.0)] == [Event("device0", lost), Event("es1", ended)]
    assert channel.pinged == ["es1"] + ["es2"] * (PINGS + 1)  # one with the first take


def test_pings_during_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 20 answers make the next measurement; the run does not see them."""
    monkeypatch.setattr(synchronized, "PERIOD_S", 0.0)
    channel = Channel()
    pool = pool_of(channel)
    pool.measure()
    for number in range(PINGS):
        assert "after" not in pool.facts()["clocks"]["10.0.0.2"], number
        assert pool.take(0.0) is None
    assert "after" in pool.facts()["clocks"]["10.0.0.2"]


def test_the_first_lost_task_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Where a firewall keeps nodes apart, all are lost."""
    channel = Channel()
    pool = pool_of(channel)
    pool.measure()
    for task in (3, 4):
        lost = Lost(task=task, hop=1, at=0.0, reason="es1 at 10.0.0.2:9000: timed out")
        channel.events.appendleft(Event("device0", lost))
        assert pool.take(0.0) == Event("device0", lost)
    (record,) = caplog.records
    assert "task 3 was lost: es1 at 10.0.0.2:9000: timed out" in record.getMessage()
