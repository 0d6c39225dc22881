"""Reads measured times of layers from a CSV file: ``layer, ms`` and, if known, ``joules``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from mecsim.dnn.graph import LayerGraph
from mecsim.dnn.measurement import Measurement
from mecsim.dnn.source_lines import amount, numbered_lines
from mecsim.errors import ProfileError
from mecsim.support.text import did_you_mean

_HEADERS: Final = (["layer", "ms"], ["layer", "ms", "joules"])


def read_layer_times(path: Path | str, graph: LayerGraph) -> Measurement:
    """Read the time of every layer of a network, for one input.

    Args:
        path: A CSV file with the header ``layer,ms`` or ``layer,ms,joules``, and one line for each
            layer in any order.
        graph: The network.

    Raises:
        ProfileError: If the file cannot be read, a layer is unknown, missing or given twice, or a
            value is no number of at least 0. The message names file, line and value.
    """
    (first, header), *rows = _rows(path) or [(1, [])]
    if header not in _HEADERS:
        found = ",".join(header) or "nothing"
        raise ProfileError(f"{path}:{first}: the header is {found!r}; allowed: layer,ms[,joules]")
    names = [layer.name for layer in graph.layers]
    values: dict[str, list[float]] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise ProfileError(f"{path}:{line}: has {len(row)} values; allowed: {len(header)}")
        name, *amounts = row
        if name not in names:
            hint = f"{did_you_mean(name, names)}allowed: {', '.join(names)}"
            raise ProfileError(f"{path}:{line}: there is no layer {name!r}; {hint}")
        if name in values:
            raise ProfileError(f"{path}:{line}: layer {name!r} is given twice")
        values[name] = [
            amount(f"{path}:{line}: {k}", a) for k, a in zip(header[1:], amounts, strict=True)
        ]
    if missing := [name for name in names if name not in values]:
        raise ProfileError(f"{path}: these layers have no time: {', '.join(missing)}")
    joules = tuple(values[name][1] for name in names) if len(header) > 2 else None
    return Measurement(
        tuple(values[name][0] for name in names), f"read from {Path(path).name}", joules=joules
    )


def _rows(path: Path | str) -> list[tuple[int, list[str]]]:
    """Return the number and the values of each line that is not blank."""
    found = []
    for number, line in numbered_lines(path):
        try:
            (row,) = csv.reader([line])
        except csv.Error as error:
            raise ProfileError(f"{path}:{number}: {error}") from error
        found.append((number, [value.strip() for value in row]))
    return found
