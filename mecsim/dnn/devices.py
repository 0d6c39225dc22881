"""Whole-model times of devices, and profiles scaled to them.

The shipped catalogue (``devices.json``) has facts from the benchmark table of ncnn. A table of the
same form can be read, too (`read_benchmark`). Both give times of a whole forward pass; how they are
divided over the layers is taken from times that were measured on another type of node, or from
FLOPs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from mecsim.dnn.graph import LayerGraph
from mecsim.dnn.measurement import STRICT, Measurement
from mecsim.dnn.source_lines import amount, numbered_lines
from mecsim.errors import ProfileError
from mecsim.support.text import did_you_mean


@dataclass(frozen=True, config=STRICT)
class Device:
    """Times of whole networks on one device, under one setting of the benchmark."""

    name: str
    """Its name in the catalogue, or in the table."""
    description: str
    """Processor and clock, as the source has it."""
    threads: int
    """Threads of the benchmark."""
    powersave: int
    """Cores that the benchmark used: 0 all, 1 the little, 2 the big ones."""
    gpu: int
    """Number of the GPU, -1 for the CPU."""
    ms: Mapping[str, float]
    """Mean time of one forward pass (batch 1) in ms, by network."""
    source: str
    """Where the times are from."""

    @property
    def setting(self) -> str:
        """The setting in words, as ``--run`` takes it."""
        return f"threads={self.threads},powersave={self.powersave},gpu={self.gpu}"


INPUT_SIZES: Final[Mapping[str, int]] = {
    "alexnet": 227,
    "efficientnet_b0": 224,
    "googlenet": 224,
    "mnasnet": 224,
    "mobilenet": 224,
    "mobilenet_v2": 224,
    "mobilenet_v3": 224,
    "resnet18": 224,
    "resnet50": 224,
    "shufflenet_v2": 224,
    "squeezenet": 227,
    "vgg16": 224,
}
"""Height and width of the images of the benchmark's networks that a profile can be scaled to."""


@cache
def catalogue() -> tuple[Device, ...]:
    """Return the shipped devices, by name.

    Example:
        >>> [device.name for device in catalogue()][:2]
        ['celeron_n5105', 'core_i7_13700k']
    """
    file = resources.files("mecsim.dnn") / "devices.json"
    return TypeAdapter(tuple[Device, ...]).validate_json(file.read_bytes())


_SETTING: Final = re.compile(r"(num_threads|powersave|gpu_device) *= *(-?\d+)\s*")
_ROW: Final = re.compile(r"\s*(\S+) +min = *(\S+) +max = *(\S+) +avg = *(\S+)\s*")


def read_benchmark(path: Path | str) -> tuple[Device, ...]:
    """Read a table of the form of ncnn's ``benchmark/README.md``.

    A line ``### NAME`` begins a device; ``num_threads = …``, ``powersave = …`` and
    ``gpu_device = …`` begin a run; ``NETWORK min = … max = … avg = …`` are its times in ms. Other
    lines are skipped.

    Args:
        path: The file.

    Returns:
        One entry for each run, in the order of the file.

    Raises:
        ProfileError: If the file cannot be read, a time is no number, or there are no times.
    """
    runs: list[tuple[str, dict[str, int], dict[str, float]]] = []
    heading, setting, begun = "", dict[str, int](), False
    for number, line in numbered_lines(path):
        if line.startswith("### "):
            heading, setting = line[4:].strip(), {}
        elif found := _SETTING.fullmatch(line):
            setting = ({} if begun else setting) | {found[1]: int(found[2])}
            begun = False
        elif found := _ROW.fullmatch(line):
            if not heading or "num_threads" not in setting:
                raise ProfileError(
                    f"{path}:{number}: has no line '### DEVICE' and 'num_threads = N' before it"
                )
            if not begun:
                runs.append((heading, setting, {}))
                begun = True
            runs[-1][2][found[1]] = amount(f"{path}:{number}: avg", found[4])
    if not runs:
        raise ProfileError(f"{path}: has no line of the form NETWORK min = … max = … avg = …")
    return tuple(
        Device(
            name=name,
            description=name,
            threads=setting["num_threads"],
            powersave=setting.get("powersave", 0),
            gpu=setting.get("gpu_device", -1),  # older tables have none
            ms=times,
            source=Path(path).name,
        )
        for name, setting, times in runs
    )


def find_device(devices: Sequence[Device], name: str, run: str | None = None) -> Device:
    """Return the one device and run that a user means.

    Args:
        devices: From `catalogue` or `read_benchmark`.
        name: Its name; or a part of it that no other device has, in any case.
        run: The setting, as ``threads=4`` or ``threads=4,powersave=0,gpu=-1``; needed if a device
            was measured under several.

    Raises:
        ProfileError: If no device or run fits, or several do.
    """
    names = list(dict.fromkeys(device.name for device in devices))
    found = [n for n in names if n == name] or [n for n in names if name.lower() in n.lower()]
    if len(found) != 1:
        listed = ", ".join(found or names)
        problem = f"is a part of {len(found)} names" if found else "is not in the list"
        hint = f"{did_you_mean(name, names)}allowed: {listed}"
        raise ProfileError(f"device {name!r}: {problem}; {hint}")
    runs = [device for device in devices if device.name == found[0]]
    wanted = _settings(run)
    fitting = [d for d in runs if wanted.items() <= _settings(d.setting).items()]
    if len(fitting) != 1:
        allowed = "; ".join(dict.fromkeys(device.setting for device in runs))
        problem = f"{len(fitting)} runs fit {run!r}" if run else f"has {len(runs)} runs"
        raise ProfileError(f"device {found[0]!r}: {problem}; allowed: one of: {allowed}")
    return fitting[0]


def _settings(run: str | None) -> dict[str, str]:
    pairs = (each.partition("=") for each in (run or "").split(",") if each)
    return {key.strip(): value.strip() for key, _, value in pairs}


def time_on(device: Device, network: str, graph: LayerGraph) -> float:
    """Return the time of a whole forward pass of a network on a device, in ms.

    Args:
        device: The device.
        network: The name of the network in the table.
        graph: The network that is to be scaled to that time.

    Raises:
        ProfileError: If the device has no time of the network, or the table's network has another
            input than the graph.
    """
    known = [name for name in device.ms if name in INPUT_SIZES]
    if network not in known:
        hint = f"{did_you_mean(network, known)}allowed: {', '.join(sorted(known))}"
        raise ProfileError(f"device {device.name!r}: has no time of {network!r}; {hint}")
    size = INPUT_SIZES[network]
    if graph.input_shape != (3, size, size):
        shape = "x".join(map(str, graph.input_shape))
        raise ProfileError(
            f"model {graph.name!r} has an input of {shape}, and {network} of the table one of "
            f"3x{size}x{size}; allowed: the same network with the same input"
        )
    return device.ms[network]


def scaled(
    graph: LayerGraph, node: str, whole_ms: float, source: str, like: str | None
) -> LayerGraph:
    """Divide the time of a whole forward pass over the layers of a network.

    Args:
        graph: The network.
        node: Name of the type of node that the new times are for.
        whole_ms: Time of the forward pass in ms.
        source: What the time is and where it is from.
        like: A measured type: each layer takes the same share of the time as there. With None, a
            layer takes its share of the FLOPs, and a layer without FLOPs takes no time.

    Returns:
        The network with the new times. Their sum is ``whole_ms``.

    Raises:
        ProfileError: If ``like`` was not measured, ``node`` was, or there is nothing to divide by.
    """
    if like is None:
        weights: Sequence[float] = [layer.flops for layer in graph.layers]
        how = "divided by FLOPs"
    elif like in graph.measured:
        weights = graph.measured[like].ms
        how = f"divided as measured on {like}"
    else:
        hint = f"{did_you_mean(like, graph.measured)}allowed: {', '.join(graph.measured) or 'none'}"
        raise ProfileError(f"model {graph.name!r}: has no measured times of {like!r}; {hint}")
    total = math.fsum(weights)
    if not total:
        raise ProfileError(f"model {graph.name!r}: {how}, no layer takes time")
    times = Measurement(
        tuple(whole_ms * weight / total for weight in weights),
        f"{whole_ms:g} ms, {source}, {how}",
        whole_ms=whole_ms,
    )
    return graph.with_measurement(node, times)
