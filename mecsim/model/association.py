"""Positions of moving devices, and the servers with which they are associated, slot after slot."""

from __future__ import annotations

import math

import numpy as np

from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled


@compiled
def place_at(begin: int, end: int, time_s: Floats, xy: Floats, now: float) -> tuple[float, float]:
    """Return where a device is: on the straight line between two of its points.

    Args:
        begin: Row of the first point of the device.
        end: Row after the last one.
        time_s: Times of the points, in order; shape (K,).
        xy: Positions of the points; shape (K, 2).
        now: The time. Before the first point and after the last one a device stands there.
    """
    low, high = begin, end
    while low < high:  # the first point after ``now``
        middle = (low + high) // 2
        if time_s[middle] > now:
            high = middle
        else:
            low = middle + 1
    if low == begin:
        return xy[begin, 0], xy[begin, 1]
    a = low - 1
    if low == end:
        return xy[a, 0], xy[a, 1]
    share = (now - time_s[a]) / (time_s[low] - time_s[a])
    x = xy[a, 0] + (xy[low, 0] - xy[a, 0]) * share
    y = xy[a, 1] + (xy[low, 1] - xy[a, 1]) * share
    return x, y


@compiled
def _metres(x: float, y: float, server_xy: Floats, server: int) -> float:
    right, up = x - server_xy[server, 0], y - server_xy[server, 1]
    return math.sqrt(right * right + up * up)


@compiled
def distances(
    bounds: Ints, time_s: Floats, xy: Floats, now_s: Floats, server_xy: Floats, server: Ints
) -> Floats:
    """Return the distance of m devices to given servers at T times; shape (T, m).

    Args:
        bounds: The points of device i are those from ``bounds[i]`` to ``bounds[i + 1]``.
        time_s: Times of the points; shape (K,).
        xy: Their positions; shape (K, 2).
        now_s: Shape (T,).
        server_xy: Positions of the servers; shape (N, 2).
        server: A server of each device at each time; shape (T, m).
    """
    found = np.empty(server.shape)
    for k in range(len(now_s)):
        for i in range(len(bounds) - 1):
            x, y = place_at(bounds[i], bounds[i + 1], time_s, xy, now_s[k])
            found[k, i] = _metres(x, y, server_xy, server[k, i])
    return found


@compiled
def associate(
    bounds: Ints,
    time_s: Floats,
    xy: Floats,
    now_s: Floats,
    server_xy: Floats,
    reach_m: Floats,
    ratio: Floats,
    handover_s: Floats,
    server: Ints,
    busy_until_s: Floats,
    found: Ints,
) -> tuple[int, int]:
    """Associate m devices with servers at T times in order.

    A device changes to the nearest server that covers it if its own does not cover it any more, or
    is farther by more than a factor; not during a handover.

    Args:
        bounds: See :func:`distances`, as the next three.
        time_s: Times of the points.
        xy: Their positions.
        now_s: The times.
        server_xy: Positions of the servers, NaN for those without a radio; shape (N, 2).
        reach_m: Largest distance at which each server covers a device; shape (N,).
        ratio: The factor of each device: its hysteresis; shape (m,).
        handover_s: Time that a change takes; shape (m,).
        server: The servers before, −1 for none; updated; shape (m,).
        busy_until_s: End of the last handover; updated; shape (m,).
        found: Filled in with the servers; shape (T, m).

    Returns:
        The first time and device for which no server covers the device, or −1 and −1.
    """
    for k in range(len(now_s)):
        now = now_s[k]
        for i in range(len(server)):
            x, y = place_at(bounds[i], bounds[i + 1], time_s, xy, now)
            best, nearest = -1, math.inf
            for n in range(len(reach_m)):
                away = _metres(x, y, server_xy, n)
                if away <= reach_m[n] and away < nearest:
                    best, nearest = n, away
            if best < 0:
                return k, i
            own = server[i]
            if own < 0:
                server[i] = best
            elif own != best and now >= busy_until_s[i]:
                away = _metres(x, y, server_xy, own)
                if away > reach_m[own] or max(away, 1.0) > max(nearest, 1.0) * ratio[i]:
                    server[i] = best
                    busy_until_s[i] = now + handover_s[i]
            found[k, i] = server[i]
    return -1, -1
