"""The blocks of a scenario's DNN, and their deadlines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import numpy as np

from mecsim.dnn import cuts, profile_file
from mecsim.dnn.graph import LayerGraph
from mecsim.errors import ProfileError, ScenarioError
from mecsim.scenario.document import FORMULA
from mecsim.scenario.schema import BlockTable, BlockTimes, Scenario
from mecsim.support.arrays import Floats

_WRITE: Final = (
    ". Try: `mecsim profile MODEL --save FILE` writes a profile; "
    "file names are relative to the file that holds them"
)


def blocks_of(scenario: Scenario) -> cuts.Blocks:
    """Return the blocks of a scenario's DNN.

    Raises:
        ScenarioError: If the number of blocks, or of measured times, is missing or does not fit.
        ProfileError: If the DNN is unknown or cannot be cut as asked.
    """
    blocks, times = _cut(scenario), scenario.dnn.service_times
    if not isinstance(times, BlockTimes):
        return blocks
    count = len(next(iter(times.ms.values())))
    if count != len(blocks):
        raise ScenarioError(
            f"dnn.service_times: has times of {count} blocks, but the DNN is cut into "
            f"{len(blocks)}; allowed: a time for each. Try: service_times: {FORMULA}"
        )
    return replace(blocks, service_ms=times.ms, joules=times.joules or {})


def _cut(scenario: Scenario) -> cuts.Blocks:
    """Return the blocks with the times that the model has."""
    spec, other = scenario.dnn, ". For another number give cut: balanced"
    if isinstance(spec.model, BlockTable):
        blocks, how, other = _given_blocks(spec.model), "the table of blocks", ""
    else:
        graph = graph_of(scenario)
        if spec.cut == "balanced":
            if spec.blocks is None:
                raise ScenarioError("dnn.blocks: is needed to cut a model into balanced blocks")
            with _naming("dnn.blocks"):
                return cuts.cut_balanced(graph, spec.blocks, spec.live_tensors)
        with _naming("dnn.cut"):
            blocks = (
                cuts.cut_stages(graph)
                if spec.cut == "stages"
                else cuts.cut_at(graph, spec.cut, spec.live_tensors)
            )
        how = f"dnn.cut of {spec.model} ({'stages' if spec.cut == 'stages' else list(spec.cut)})"
    if spec.blocks not in (None, len(blocks)):
        raise ScenarioError(
            f"dnn.blocks: {spec.blocks} does not go with {how}, which makes {len(blocks)} blocks; "
            f"allowed: {len(blocks)}, or null for whatever number it makes{other}"
        )
    return blocks


def graph_of(scenario: Scenario) -> LayerGraph:
    """Return the layer graph of a scenario's DNN, with all its measured times.

    Raises:
        ScenarioError: If the DNN is a table of blocks.
        ProfileError: If the DNN is unknown, or its files cannot be read.
    """
    spec = scenario.dnn
    if isinstance(spec.model, BlockTable):
        raise ScenarioError(
            "dnn.model: is a table of blocks, which names no layers; allowed: a shipped model or "
            "the path of a profile that ends in .json"
        )
    with _naming("dnn.model", _WRITE if spec.model.endswith(".json") else ""):
        graph = profile_file.load_graph(spec.model)
    if isinstance(spec.service_times, tuple):
        with _naming("dnn.service_times", _WRITE):
            graph = profile_file.merge_profiles([spec.model, *spec.service_times])
    return graph


@contextmanager
def _naming(key: str, remedy: str = "") -> Iterator[None]:
    """Put the key of a scenario before errors about its DNN, and a remedy after them."""
    try:
        yield
    except ProfileError as error:
        raise ProfileError(f"{key}: {error}{remedy}") from error


def _given_blocks(table: BlockTable) -> cuts.Blocks:
    blocks = len(table.input_bits)
    return cuts.Blocks(
        names=table.names or tuple(f"block{number}" for number in range(blocks)),
        flops=table.flops or (math.nan,) * blocks,
        parameter_bytes=table.parameter_bytes,
        input_bits=table.input_bits,
        output_bits=table.output_bits,
        cuts=(),
        service_ms=table.ms or {},
        joules=table.joules or {},
    )


def deadlines(scenario: Scenario, blocks: int) -> Floats:
    """Return τ_m of each of M ``blocks`` in seconds; shape (M,).

    Raises:
        ScenarioError: If the scenario lists another number of them.
    """
    tolerated = scenario.dnn.max_tolerated_delay
    if isinstance(tolerated, tuple) and len(tolerated) != blocks:
        raise ScenarioError(
            f"dnn.max_tolerated_delay: has {len(tolerated)} entries; allowed: one value, "
            f"or {blocks}, one for each block"
        )
    return np.broadcast_to(np.array(tolerated, dtype=np.float64), (blocks,)).copy()
