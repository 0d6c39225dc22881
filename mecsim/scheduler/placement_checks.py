"""Check the placements that schedulers and learners return."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from mecsim.errors import PlacementError
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.support.arrays import Ints, read_only


def check_placement(
    placement: ArrayLike, spec: SchedulerSpec, scheduler: str, epoch: int, device: int | None
) -> Ints:
    """Return a scheduler's answer as a read-only array. Nothing is rounded or clipped.

    Args:
        placement: The answer: one place for each block, in {0, …, N} (Eq. 2).
        spec: The network; gives the numbers of blocks M and servers N.
        scheduler: Name of the scheduler, for messages.
        epoch: Number of the decision epoch, for messages.
        device: Device whose task is placed, for messages; None if the answer is for a slot.

    Returns:
        The placement; shape (M,).

    Raises:
        PlacementError: If the answer is not such a placement. The message names the scheduler,
            the epoch, the block, its place and the places that are allowed.

    Example:
        >>> from mecsim import Scenario, SchedulerSpec
        >>> from mecsim.model import resolve
        >>> spec = SchedulerSpec.of(resolve(Scenario()))  # 4 servers, 6 blocks
        >>> check_placement([0, 1, 1, 2, 2, 0], spec, "mine", 7, None)
        array([0, 1, 1, 2, 2, 0])
        >>> check_placement([0, 1, 1, 2, 2, 9], spec, "mine", 7, None)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        mecsim.errors.PlacementError: scheduler 'mine', epoch 7: the placement puts block 5 at ...
    """
    if _is_valid(placement, spec):
        return read_only(np.array(placement, dtype=np.int64))
    of = "" if device is None else f", device {device}"
    who = f"scheduler {scheduler!r}, epoch {epoch}{of}: the placement"
    return read_only(check_placements(placement, spec, who))


def _is_valid(placement: ArrayLike, spec: SchedulerSpec) -> bool:
    """Return whether a placement is a valid list or array; False if that is not certain.

    Lists this short are checked in a third of the time that array operations take.
    """
    if isinstance(placement, np.ndarray) and placement.dtype.kind in "iu":
        placement = placement.tolist()
    return (
        isinstance(placement, list)
        and len(placement) == spec.blocks
        and {type(place) for place in placement} == {int}
        and min(placement) >= 0
        and max(placement) <= spec.servers
    )


def check_placements(
    placements: ArrayLike, spec: SchedulerSpec, who: str, **axes: int | None
) -> Ints:
    """Return placements as an array of integers. Nothing is rounded or clipped.

    Args:
        placements: Places in {0, …, N}; the last axis has one place for each block.
        spec: The network; gives the numbers of servers N and blocks M, the largest of a class if
            it is of several classes.
        who: The subject of each message, a singular such as ``"what_if: the array"``.
        **axes: Name and length of each axis before the last; any length where it is None.

    Returns:
        A copy in C order; shape (…, M).

    Raises:
        PlacementError: If the array has another shape or type, or a place is out of range. The
            message names the first wrong block by its position on each axis.
    """
    try:
        places = np.asarray(placements)
    except ValueError as error:
        raise PlacementError(f"{who} is not a list of places: {error}") from error
    if places.dtype.kind not in "iu":
        shown = " ".join(reprlib.repr(placements).split())
        raise PlacementError(f"{who} {shown} holds {places.dtype}; allowed: integers")
    _check_shape(places, spec.most_blocks, who, axes)
    if places.size and not 0 <= places.min() <= places.max() <= spec.servers:
        wrong = (places < 0) | (places > spec.servers)
        *at, block = np.argwhere(wrong)[0].tolist()
        row = "".join(f", {name} {index}" for name, index in zip(axes, at, strict=True))
        place = places[*at, block]
        allowed = f"0 (the device) to {spec.servers}"
        raise PlacementError(f"{who}{row} puts block {block} at {place}; allowed: {allowed}")
    return np.array(places, dtype=np.int64, order="C")  # one layout for compiled code


def _check_shape(places: Ints, blocks: int, who: str, axes: Mapping[str, int | None]) -> None:
    expected = (*axes.values(), blocks)
    if places.ndim == len(expected) and all(
        length in (None, found) for length, found in zip(expected, places.shape, strict=True)
    ):
        return
    lengths = [f"{name}s" if length is None else str(length) for name, length in axes.items()]
    shape = f"({', '.join(lengths)}, {blocks})" if lengths else f"({blocks},)"
    problem = f"has the shape {places.shape}; allowed: {shape}, one place a block"
    raise PlacementError(f"{who} {problem}")
