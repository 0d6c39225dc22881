"""`mecsim profile`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from mecsim.cli.output import Output, with_output
from mecsim.errors import InputError

if TYPE_CHECKING:
    from mecsim.dnn.graph import LayerGraph


@with_output
def profile(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="MODEL",
            help="A shipped model, a saved profile (.json), or package.module:factory.",
            show_default=False,
        ),
    ] = None,
    blocks: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--blocks", metavar="M", help="Cut into M blocks, balanced by cycles."),
    ] = None,
    cut: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--cut", metavar="CUT", help="stages, balanced, or layers to cut after: conv1,pool2."
        ),
    ] = None,
    input_shape: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--input-shape", metavar="CxHxW", help="Input of a factory's module. Default: 3x32x32."
        ),
    ] = None,
    save: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--save", metavar="FILE", help="Save the profile as JSON for scenarios."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped models.")] = False,
    *,
    output: Output,
) -> None:
    """Show the layers of a DNN, where it can be cut, and its blocks (c_m, d_m, I_m).

    Example: mecsim profile vgg16 --blocks 6
    """
    from mecsim.cli import display
    from mecsim.dnn import cuts

    if list_ or model is None:
        _report_models(output)
        return
    graph = _graph(model, input_shape)
    if save is not None:
        from mecsim.dnn.profile_file import write_profile

        write_profile(graph, save)
    if cut is None and blocks is None:
        _report_layers(graph, output)
        return
    if cut is None or cut == "balanced":
        if blocks is None:
            raise InputError("--cut balanced: needs --blocks M")
        made = cuts.cut_balanced(graph, blocks)
    else:
        made = cuts.cut_stages(graph) if cut == "stages" else cuts.cut_at(graph, cut.split(","))
    table = made.table()
    output.report(
        {"model": graph.name, "blocks": table},
        lambda: [display.blocks_table(table, f"{graph.name} in {len(made)} blocks")],
    )


def _graph(model: str, input_shape: str | None) -> LayerGraph:
    from mecsim.dnn.profile_file import load_graph

    if ":" not in model:
        if input_shape is not None:
            raise InputError("--input-shape: only valid with package.module:factory")
        return load_graph(model)
    try:
        shape = tuple(int(size) for size in (input_shape or "3x32x32").split("x"))
    except ValueError:
        raise InputError(f"--input-shape: {input_shape!r}; expected the form 3x32x32") from None
    with warnings.catch_warnings():
        # PyTorch warns about its own modules, which users cannot change; a user's module still may.
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        return _profiled(model, shape)


def _profiled(model: str, shape: tuple[int, ...]) -> LayerGraph:
    try:
        from mecsim.dnn import profiler
    except ImportError as error:
        raise InputError(
            f"profile {model}: needs PyTorch. Try: pip install 'mecsim[torch]'"
        ) from error
    return profiler.profile_module(profiler.load_factory(model), shape, model)


def _report_models(output: Output) -> None:
    from mecsim.cli import display
    from mecsim.dnn import graph as graph_module
    from mecsim.dnn.profile_file import load_graph, shipped

    rows = [graph_module.overview(load_graph(name)) for name in shipped()]
    output.report({"models": rows}, lambda: [display.models_table(rows)])


def _report_layers(graph: LayerGraph, output: Output) -> None:
    from mecsim.cli import display
    from mecsim.dnn import graph as graph_module

    overview, rows = graph_module.overview(graph), graph_module.layer_table(graph)
    title = f"{graph.name}: 1 to {overview['max_blocks']} blocks"
    output.report(overview | {"layer_table": rows}, lambda: [display.layers_table(rows, title)])
