"""Check the placements that schedulers return."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mecsim.errors import PlacementError
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.support.arrays import Ints, read_only


def check_placement(
    placement: ArrayLike, spec: SchedulerSpec, scheduler: str, epoch: int, device: int | None
) -> Ints:
    """Return a scheduler's answer as an array of shape (M,), or say what is wrong with it.

    Raises ``PlacementError`` that names the scheduler, the epoch and the block; nothing is ever
    rounded or clipped.
    """
    of = "" if device is None else f", device {device}"
    who = f"scheduler {scheduler!r}, epoch {epoch}{of}: the placement"
    try:
        places = np.asarray(placement)
    except ValueError as error:
        raise PlacementError(f"{who} is not a list of places: {error}") from error
    if places.dtype.kind not in "iu":
        raise PlacementError(f"{who} {_short(placement)} holds {places.dtype}; allowed: integers")
    if places.shape != (spec.blocks,):
        shape = f"({spec.blocks},), one place a block"
        raise PlacementError(f"{who} has the shape {places.shape}; allowed: {shape}")
    wrong = np.flatnonzero((places < 0) | (places > spec.servers))
    if wrong.size:
        block = int(wrong[0])
        allowed = f"0 (the device) to {spec.servers}"
        raise PlacementError(f"{who} puts block {block} at {places[block]}; allowed: {allowed}")
    return read_only(places.astype(np.int64))


def check_placements(placements: ArrayLike, spec: SchedulerSpec, each: str) -> Ints:
    """Return placements as an array of shape (C, M), or say what is wrong with them.

    Raises ``PlacementError``, in which a placement is called ``each`` and its row.
    """
    try:
        places = np.asarray(placements)
    except ValueError as error:
        raise PlacementError(f"{each}s are not lists of places: {error}") from error
    if places.ndim != 2 or places.shape[1] != spec.blocks:
        shape = f"(number of placements, {spec.blocks})"
        raise PlacementError(f"{each}s have the shape {places.shape}; allowed: {shape}")
    if places.dtype.kind not in "iu":
        raise PlacementError(f"{each}s hold {places.dtype}; allowed: integers")
    wrong = np.argwhere((places < 0) | (places > spec.servers))
    if len(wrong):
        row, block = wrong[0].tolist()
        allowed = f"0 (the device) to {spec.servers}"
        at = f"{each} {row} puts block {block} at {places[row, block]}"
        raise PlacementError(f"{at}; allowed: {allowed}")
    return np.array(places, dtype=np.int64, order="C")  # of one layout, for the compiler


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
