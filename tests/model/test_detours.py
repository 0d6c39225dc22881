"""Ways around failed links: against a search of all ways, by hand, and in both kernels."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.model.detours import around, crosses
from mecsim.model.model import resolve
from mecsim.model.routes import next_links
from mecsim.model.topology import Links
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay
from mecsim.simulation.run import run
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import SCRIPTED, Scripted


@st.composite
def networks(draw: st.DrawFn) -> tuple[Links, int, Any]:
    """A ring with chords, both ways, of unequal links, of which some are down."""
    servers = draw(st.integers(2, 5))
    cables = {(n, n + 1) for n in range(servers - 1)} | {(0, servers - 1)}
    chord = st.tuples(st.integers(0, servers - 1), st.integers(0, servers - 1))
    cables |= {(min(a, b), max(a, b)) for a, b in draw(st.lists(chord, max_size=4)) if a != b}
    ends = sorted([*cables, *((b, a) for a, b in cables)])
    count = len(ends)
    rates = draw(st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=count, max_size=count))
    waits = draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=count, max_size=count))
    down = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    source, target = np.array(ends, dtype=np.int64).T.copy()
    links = Links(source, target, np.array(rates), np.array(waits))
    return links, servers, np.array(down)


def ways(links: Links, servers: int, down: Any, source: int, target: int) -> list[float]:
    """The times of 2 bits over all ways without links that are down."""
    link = {
        (int(a), int(b)): k for k, (a, b) in enumerate(zip(links.source, links.target, strict=True))
    }
    others, found = [n for n in range(servers) if n not in (source, target)], []
    for count in range(len(others) + 1):
        for between in permutations(others, count):
            stops = (source, *between, target)
            hops = [link.get(pair, -1) for pair in pairwise(stops)]
            if all(k >= 0 and not down[k] for k in hops):
                found.append(sum(2 / links.rate_bps[k] + links.latency_s[k] for k in hops))
    return found


@given(networks())
@settings(max_examples=examples(200), deadline=None, derandomize=True)
def test_detours_are_the_fastest_ways_that_are_left(case: tuple[Links, int, Any]) -> None:
    links, servers, down = case
    usual = next_links(links, servers, 2.0)
    table = around(links, 2.0, down, usual)
    for source in range(servers):
        for target in range(servers):
            found = ways(links, servers, down, source, target) if source != target else []
            server, seconds, crossed = source, 0.0, False
            for _ in range(servers):
                if server == target:
                    break
                link = table[server, target]
                crossed |= bool(down[link])
                seconds += 2 / links.rate_bps[link] + links.latency_s[link]
                server = int(links.target[link])
            assert server == target
            assert crossed == (source != target and not found)
            if found:
                assert seconds == min(found)
            if not crosses(usual, links.target, down, source, target) and source != target:
                assert table[source, target] == usual[source, target]


TRIANGLE: dict[str, Any] = {
    "slots": 3,
    "dnn": chain([0], [6]),
    "edge_servers": 3,
    "devices": 1,
    "device": {"positions": [[0, 0]]},
    "radio": {"rate": 1e9},
    "wired": {"rate": 2.0, "latency": 0.5},
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_tasks_released_during_an_outage_go_around(kernel: str) -> None:
    """From server 1 to 3 in 3 s + 0.5 s. While that link is down, over server 2; those of the first
    and of the third slot go straight, and the first waits on its way."""
    failing = [{"links": [[1, 3]], "at": [[0.5, 1.5]]}]
    spec = scenario(**TRIANGLE, failures=failing)
    trace = simulate(spec, SCRIPTED, {"placements": [[3]]}, kernel=kernel).trace
    names = resolve(spec).resource_names()
    way = [names[r] for r in trace["hops/resource"].tolist() if "-" in names[r]]
    assert way == ["es1-es3", "es1-es2", "es2-es3", "es1-es3"]
    # 0–4 s, with 1 s of outage; 1–4 and 4.5–7.5 s; 4–7 s. Then 0.5 s of latency.
    finish = trace["tasks/finish_s"]
    assert finish.round(6).tolist() == [4.5, 8.0, 7.5]


@pytest.mark.parametrize(
    ("change", "finish"),
    [
        ({"wired": {"rate": 2.0, "latency": 0.5, "reroute": False}}, 7.5),  # waits for the first
        ({"failures": [{"links": "all", "at": [[0.5, 1.5]]}]}, 7.5),  # there is no other way
    ],
)
def test_tasks_that_wait_for_the_repair(change: dict[str, Any], finish: float) -> None:
    failing = [{"links": [[1, 3]], "at": [[0.5, 1.5]]}]
    spec = scenario(**(TRIANGLE | {"slots": 2, "failures": failing} | change))
    trace = simulate(spec, SCRIPTED, {"placements": [[3]]}).trace
    assert trace["tasks/finish_s"].round(6).tolist() == [4.5, finish]


def test_observation_plans_with_the_detour() -> None:
    """6 bits from server 1 take 3.5 s over a link, and 7 s over two around the one to server 3."""
    seen: list[Any] = []
    failing = [{"links": [[1, 3]], "at": [[0.5, 1.5]]}]
    run(scenario(**TRIANGLE, failures=failing), lambda s: Scripted(s, placements=[[0]], seen=seen))
    own = np.array([0])
    planned = [o.wired_s(0, own)[0].tolist() for o in seen]
    assert planned == [[0.0, 3.5, 3.5], [0.0, 3.5, 7.0], [0.0, 3.5, 3.5]]
    assert seen[1].wired_s(1, own)[0, 2] == 9.0  # a result of 8 bits


def test_replay_takes_the_same_ways(tmp_path: Any) -> None:
    failing = [{"links": "all", "mean_time_to_failure": 1.0, "mean_time_to_repair": 1.0}]
    spec = scenario(**(TRIANGLE | {"slots": 12, "devices": 3, "device": {}}), failures=failing)
    run(spec, "rpdi", seed=5, out=tmp_path / "t.h5")
    assert replay(tmp_path / "t.h5", kernel="compiled").difference is None
