"""Moving devices: paths, changes of servers with hysteresis, handovers, rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.model import paths, workload
from mecsim.model.equations import path_gain
from mecsim.model.mobility import Mobility
from mecsim.model.model import reseeded, resolve
from mecsim.model.paths import Paths
from mecsim.support.arrays import Floats, Ints
from tests.helpers.builders import scenario

TWO: dict[str, Any] = {"positions": [[0, 0], [1000, 0]], "coverage_radius": 750.0}
AREA = [[-100, -50], [300, 150]]


def moving(*entries: dict[str, Any], seed: int = 0, **more: Any) -> Mobility:
    spec = scenario(**({"edge_server": TWO, "mobility": list(entries)} | more))
    found = resolve(spec, seed).mobility
    assert found is not None
    return found


def walks(seed: int = 0, **more: Any) -> Paths:
    """Five devices walk at 1 to 2 m/s, with pauses of 0 to 30 s, for 4,000 s."""
    entry = {"speed": [1.0, 2.0], "pause": [0.0, 30.0], "area": AREA}
    spec = scenario(**{"slots": 4000, "devices": 5, "mobility": [entry]} | more)
    found = paths.paths(spec, seed, paths.Servers(np.array(TWO["positions"]), np.full(2, 750.0)))
    assert found is not None
    return found


def pieces(found: Paths, i: int) -> tuple[Floats, Floats]:
    """Times and positions of the points of a device."""
    rows = slice(*found.bounds[i : i + 2].tolist())
    return found.time_s[rows], found.xy[rows]


# ---------------------------------------------------------------- random waypoint


def test_walks_stay_in_the_area_at_the_given_speeds() -> None:
    found = walks()
    for i in range(5):
        time_s, xy = pieces(found, i)
        assert (xy >= AREA[0]).all()
        assert (xy <= AREA[1]).all()
        metres = np.linalg.norm(np.diff(xy, axis=0), axis=1)
        seconds = np.diff(time_s)
        legs, pauses = metres > 0, metres == 0
        speed = metres[legs] / seconds[legs]
        assert speed.min() >= 1 - 1e-9
        assert speed.max() <= 2 + 1e-9
        assert seconds[pauses].min() >= 0
        assert seconds[pauses].max() <= 30 + 1e-9
        assert time_s[0] == 0
        assert time_s[-1] >= 4000
    assert len(found.device) == 5


def test_waypoints_speeds_and_pauses_are_uniform() -> None:
    """Means of uniform draws, within four standard errors; waypoints do not depend on the last."""
    found = walks(slots=40_000)
    every = [pieces(found, i) for i in range(5)]
    stops = np.concatenate([xy[::2] for _, xy in every])
    seconds = np.concatenate([np.diff(time_s) for time_s, _ in every])
    metres = np.concatenate([np.linalg.norm(np.diff(xy, axis=0), axis=1) for _, xy in every])
    speeds = metres[::2] / seconds[::2]
    for values, low, high in (
        (stops[:, 0], -100, 300),
        (stops[:, 1], -50, 150),
        (speeds, 1, 2),
        (seconds[1::2], 0, 30),
    ):
        error = (high - low) / np.sqrt(12 * len(values))
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * error)
        assert values.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.1)
    successive = np.corrcoef(stops[:-1, 0], stops[1:, 0])[0, 1]
    assert abs(successive) < 4 / np.sqrt(len(stops))


def test_walks_depend_on_the_seed_and_not_on_the_length_of_the_run() -> None:
    short, long, other = walks(slots=100), walks(), walks(seed=1)
    for i in range(5):
        (times, xy), (more_times, more_xy) = pieces(short, i), pieces(long, i)
        assert np.array_equal(more_times[: len(times)], times)
        assert np.array_equal(more_xy[: len(xy)], xy)
    assert not np.array_equal(long.xy[:10], other.xy[:10])
    spec = scenario(
        slots=100, devices=5, edge_server=TWO, mobility=[{"speed": [1, 2], "area": AREA}]
    )
    again = reseeded(resolve(spec, 1), 2)
    assert again.mobility is not None
    assert np.array_equal(again.mobility.paths.xy, resolve(spec, 2).mobility.paths.xy)  # type: ignore[union-attr]
    assert np.array_equal(again.device_xy, resolve(spec, 2).device_xy)


def test_walks_do_not_shift_other_draws() -> None:
    poisson = {"process": "poisson", "rate": 5}
    still = scenario(slots=20, devices=5, edge_server=TWO, arrivals=poisson)
    walking = still.model_copy(
        update={"mobility": scenario(mobility=[{"speed": [1, 2], "area": AREA}]).mobility}
    )
    for one, other in zip(
        workload.slots(resolve(still)), workload.slots(resolve(walking)), strict=True
    ):
        assert np.array_equal(one.tasks.release_s, other.tasks.release_s)
        assert np.array_equal(one.tasks.device, other.tasks.device)


def test_some_devices_walk_and_others_stand() -> None:
    groups = [{"name": "phone", "count": 2}, {"name": "camera", "positions": [[10, 20]]}]
    entry = {"devices": ["phone"], "speed": [1, 2], "area": AREA}
    spec = scenario(devices=groups, edge_server=TWO, mobility=[entry])
    model = resolve(spec)
    assert model.mobility is not None
    assert model.mobility.paths.device.tolist() == [0, 1]
    assert model.device_xy[2].tolist() == [10, 20]


# ---------------------------------------------------------------- servers over time


def servers(found: Mobility, slots: int) -> list[list[int]]:
    rows = np.broadcast_to(found.servers_in(range(slots)), (slots, len(found.start)))
    return [list(row) for row in rows.tolist()]


def there_and_back(**more: Any) -> dict[str, Any]:
    """A device walks from server 0 to server 1 at 100 m a slot, and back."""
    return {"points": [[0, 0, 0, 0], [10, 0, 1000, 0], [20, 0, 0, 0]], **more}


def test_hysteresis_by_hand() -> None:
    """The slope of 37.6 dB a decade makes 3 dB a factor of 10^(3/37.6) = 1.2017 in distance.

    On the way there the device is at 500, 600 m: 500 to 500, 600 to 400 (a factor of 1.5). On the
    way back at 500 m, then 400 m: 600 to 400. With 7 dB the factor is 1.5352: it takes 700 to 300.
    """
    three = servers(moving(there_and_back(), slots=22), 22)
    assert [row[0] for row in three] == [0] * 6 + [1] * 10 + [0] * 6
    seven = servers(moving(there_and_back(hysteresis_db=7.0), slots=22), 22)
    assert [row[0] for row in seven] == [0] * 7 + [1] * 10 + [0] * 5


def test_no_hysteresis_keeps_the_server_at_equal_distance() -> None:
    """At 500 m both are equally near: the device stays where it is."""
    found = servers(moving(there_and_back(hysteresis_db=0.0), slots=22), 22)
    assert [row[0] for row in found] == [0] * 6 + [1] * 10 + [0] * 6


def test_device_leaves_a_server_that_does_not_cover_it_any_more() -> None:
    """With 40 dB it keeps server 0 up to the coverage radius of 750 m, and server 1 likewise."""
    found = servers(moving(there_and_back(hysteresis_db=40.0), slots=22), 22)
    assert [row[0] for row in found] == [0] * 8 + [1] * 10 + [0] * 4


def test_no_change_during_a_handover() -> None:
    """A device that goes to and fro every slot changes once a handover of 2.5 slots has ended."""
    points = [[k, 0, 900.0 * (k % 2), 0] for k in range(9)]
    found = moving({"points": points, "handover": 2.5}, slots=9)
    assert [row[0] for row in servers(found, 9)] == [0, 1, 1, 1, 0, 0, 0, 1, 1]
    model = resolve(
        scenario(slots=9, edge_server=TWO, mobility=[{"points": points, "handover": 2.5}])
    )
    assert model.calendars.outages[:, :2].tolist() == [[1.0, 3.5], [4.0, 6.5], [7.0, 9.5]]
    up, down = model.resources.uplink, model.resources.downlink
    assert np.flatnonzero(model.calendars.of["timed"]).tolist() == [up, down]


def test_handovers_without_a_gap_are_one_outage() -> None:
    points = [[k, 0, 900.0 * (k % 2), 0] for k in range(4)]
    spec = scenario(slots=4, edge_server=TWO, mobility=[{"points": points, "handover": 1.0}])
    assert resolve(spec).calendars.outages[:, :2].tolist() == [[1.0, 4.0]]


def test_servers_and_gains_can_be_read_at_any_slot() -> None:
    entry = {"speed": [20, 40], "area": [[0, -300], [1000, 300]]}
    found = moving(entry, slots=300, devices=7)
    every = np.array(servers(found, 300))
    assert len(found.slot) > 10
    gain = np.ones(7)
    gains = found.gains_in(range(300), gain)
    for first, end in ((0, 1), (0, 64), (63, 65), (120, 300), (299, 300)):
        rows = np.broadcast_to(found.servers_in(range(first, end)), (end - first, 7))
        assert np.array_equal(rows, every[first:end])
        assert np.array_equal(found.gains_in(range(first, end), gain), gains[first:end])


def test_servers_of_tasks_are_those_of_their_slots() -> None:
    entry = {"speed": [20, 40], "area": [[0, -300], [1000, 300]]}
    found = moving(entry, slots=100, devices=4)
    every, slot = np.array(servers(found, 100)), np.repeat(np.arange(100), 4)
    device = np.tile(np.arange(4), 100)
    assert np.array_equal(found.servers_of(device, slot), every[slot, device])
    assert np.array_equal(found.servers_of(device[:40], slot[:40]), every[slot[:40], device[:40]])
    assert found.servers_of(device[:0], slot[:0]).tolist() == []


def nearest(spec: Scenario, xy: Floats) -> Ints:
    positions = np.array(spec.edge_server.positions)
    return np.asarray(np.linalg.norm(xy[:, None] - positions, axis=2).argmin(axis=1))


def test_server_is_the_nearest_without_hysteresis() -> None:
    """Against positions interpolated by numpy."""
    entry = {"speed": [20, 40], "pause": [0, 5], "area": [[0, -300], [1000, 300]]}
    spec = scenario(slots=200, devices=3, edge_server=TWO, mobility=[entry | {"hysteresis_db": 0}])
    found = resolve(spec).mobility
    assert found is not None
    every, now_s = np.array(servers(found, 200)), np.arange(200.0)
    for i in range(3):
        time_s, xy = pieces(found.paths, i)
        where = np.stack([np.interp(now_s, time_s, xy[:, axis]) for axis in (0, 1)], axis=1)
        assert np.array_equal(every[:, i], nearest(spec, where))


# ---------------------------------------------------------------- rates


def test_rate_follows_the_position_at_the_start_of_each_slot() -> None:
    spec = scenario(slots=12, edge_server=TWO, mobility=[there_and_back()])
    radio, model = spec.radio, resolve(spec)
    metres = np.array([1, 100, 200, 300, 400, 500, 400, 300, 200, 100, 1, 100.0])
    loss = radio.path_loss_intercept_db, radio.path_loss_slope_db
    snr = radio.transmit_power * path_gain(metres, *loss) / (radio.noise_density * radio.bandwidth)
    expected = radio.bandwidth * np.log2(1 + snr)
    rates = [float(slot.rate_bps[0]) for slot in workload.slots(model)]
    assert rates == pytest.approx(expected.tolist(), rel=1e-12)


def test_given_rates_do_not_follow_positions() -> None:
    spec = scenario(slots=12, edge_server=TWO, mobility=[there_and_back()], radio={"rate": 7.0})
    (chunk,) = workload.chunks(resolve(spec))
    assert chunk.rate_bps.tolist() == [[7.0]]
    assert chunk.serving_server.shape == (12, 1)


def test_fading_is_that_of_devices_that_stand() -> None:
    """The ratio of rates with a narrow band is that of the path gains: fading is the same draw."""
    radio = {"fading": "rayleigh"}
    still = {"points": [[0, 0, 300, 0]]}
    walking = {"points": [[0, 0, 300, 0], [100, 0, 301, 0]]}
    one, other = (
        np.concatenate(
            [s.rate_bps for s in workload.slots(
                resolve(scenario(slots=5, edge_server=TWO, mobility=[entry], radio=radio)))]
        )
        for entry in (still, walking)
    )  # fmt: skip
    assert one[0] == other[0]
    assert other == pytest.approx(one, rel=1e-3)
    assert len(set(one.tolist())) == 5
