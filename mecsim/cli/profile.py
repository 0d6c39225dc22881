"""`mecsim profile`."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Optional, TypeAlias

import typer

from mecsim.cli.output import Output, with_output
from mecsim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mecsim.dnn.cuts import Blocks
    from mecsim.dnn.graph import LayerGraph
    from mecsim.dnn.timing import Timing

# typer reads this form of an optional type
_Text: TypeAlias = Optional[str]  # noqa: UP045
_Texts: TypeAlias = Optional[list[str]]  # noqa: UP045
_Integer: TypeAlias = Optional[int]  # noqa: UP045
_Number: TypeAlias = Optional[float]  # noqa: UP045
_File: TypeAlias = Optional[Path]  # noqa: UP045

_MODULE: Final = "Modules"
_MEASURE: Final = "Measure"
_IMPORT: Final = "Measured times of other machines"


@with_output
def profile(
    model: Annotated[
        _Texts,
        typer.Argument(
            metavar="MODEL",
            help="A shipped model, a saved profile (.json), a layer graph of PipeDream (.txt), "
            "package.module:factory or file.py:factory. Several with --merge.",
            show_default=False,
        ),
    ] = None,
    blocks: Annotated[
        _Integer,
        typer.Option("--blocks", metavar="M", help="Cut into M blocks, balanced by cycles."),
    ] = None,
    cut: Annotated[
        _Text,
        typer.Option(
            "--cut", metavar="CUT", help="stages, balanced, or layers to cut after: conv1,pool2."
        ),
    ] = None,
    live_tensors: Annotated[
        int,
        typer.Option(
            "--live-tensors", metavar="N", min=1, help="Most tensors that may cross a cut."
        ),
    ] = 1,
    save: Annotated[
        _File,
        typer.Option("--save", metavar="FILE", help="Save the profile as JSON for scenarios."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped models.")] = False,
    devices: Annotated[
        bool, typer.Option("--devices", help="List devices with times of whole networks.")
    ] = False,
    input_shape: Annotated[
        _Text,
        typer.Option(
            "--input-shape",
            metavar="CxHxW",
            help="Input of a factory's module. Default: 3x32x32.",
            rich_help_panel=_MODULE,
        ),
    ] = None,
    input_type: Annotated[
        _Text,
        typer.Option(
            "--input-type",
            metavar="TYPE",
            help="Type of its numbers: int64 for tokens. Default: that of the parameters.",
            rich_help_panel=_MODULE,
        ),
    ] = None,
    argument: Annotated[
        _Texts,
        typer.Option(
            "--argument",
            metavar="KEY=VALUE",
            help="An argument of the factory. Repeatable.",
            rich_help_panel=_MODULE,
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Measure the time of each layer on this machine.",
            rich_help_panel=_MEASURE,
        ),
    ] = False,
    threads: Annotated[
        _Integer,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="Threads of PyTorch. Default: its own.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    warm_up: Annotated[
        _Integer,
        typer.Option(
            "--warm-up",
            metavar="N",
            min=0,
            help="Passes before the first that counts. Default: 10.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    repetitions: Annotated[
        _Integer,
        typer.Option(
            "--repetitions",
            metavar="N",
            min=6,
            help="Passes that count. Default: 100.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    cpu_time: Annotated[
        bool,
        typer.Option(
            "--cpu-time",
            help="Measure the processor time of one thread, on a machine with other load.",
            rich_help_panel=_MEASURE,
        ),
    ] = False,
    type_: Annotated[
        _Text,
        typer.Option(
            "--type",
            metavar="NAME",
            help="Type of node that the times are for. Default: name of this host, or of the "
            "device.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Join profiles of one network from several machines.",
            rich_help_panel=_IMPORT,
        ),
    ] = False,
    times: Annotated[
        _File,
        typer.Option(
            "--times",
            metavar="FILE",
            help="Take times from a CSV file: layer,ms[,joules].",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    batch: Annotated[
        _Integer,
        typer.Option(
            "--batch",
            metavar="N",
            min=1,
            help="Batch of a layer graph of PipeDream; times and sizes are divided by it.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    result: Annotated[
        _Text,
        typer.Option(
            "--result",
            metavar="NODE",
            help="The node of that graph whose result is wanted, if there are several.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    device: Annotated[
        _Text,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Scale to the time that a whole pass takes on this device; see --devices.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    network: Annotated[
        _Text,
        typer.Option(
            "--network",
            metavar="NAME",
            help="The network in the device's table that MODEL is.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    whole_ms: Annotated[
        _Number,
        typer.Option(
            "--whole-ms",
            metavar="MS",
            help="Scale to this time of a whole pass instead.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    like: Annotated[
        _Text,
        typer.Option(
            "--like",
            metavar="TYPE",
            help="Each layer takes its share as measured on this type, or flops.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    benchmark: Annotated[
        _File,
        typer.Option(
            "--benchmark",
            metavar="FILE",
            help="Find the device in a table of ncnn's form (benchmark/README.md).",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    run: Annotated[
        _Text,
        typer.Option(
            "--run",
            metavar="threads=N,…",
            help="Its run in that table: threads, powersave, gpu.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Show the layers of a DNN, where it can be cut, and its blocks (c_m, d_m, I_m).

    Example: mecsim profile vgg16 --blocks 6
    """
    if devices:
        _report_devices(output)
        return
    asked: dict[str, object] = {
        "measure": measure or None,
        "merge": merge or None,
        "times": times,
        "device": device,
    }
    asked |= {"whole_ms": whole_ms, "type": type_, "save": save}
    _only_with("a MODEL", bool(model) and not list_, asked)
    if list_ or not model:
        _report_models(output)
        return
    timed = measure or any(each is not None for each in (times, device, whole_ms))
    graph_named = model[0].endswith(".txt")
    _only_with("times of that type of node", timed or graph_named, {"type": type_})
    settings = {"threads": threads, "warm_up": warm_up, "repetitions": repetitions}
    _only_with("--measure", measure, settings | {"cpu_time": cpu_time or None})
    given = {key: value for key, value in settings.items() if value is not None}
    module = {"input_shape": input_shape, "input_type": input_type, "argument": argument}
    graph_file = {"batch": batch, "result": result}
    scaling = {"network": network, "benchmark": benchmark}
    _only_with("--device", device is not None, scaling)
    _only_with("--benchmark", benchmark is not None, {"run": run})
    _only_with("--device or --whole-ms", device is not None or whole_ms is not None, {"like": like})
    if merge:
        _only_with("one module", False, module | graph_file | {"measure": measure or None})
        from mecsim.dnn.profile_file import merge_profiles

        graph = merge_profiles(model)
    elif len(model) > 1:
        raise InputError(f"{model[1]}: is a second MODEL. Try: --merge")
    elif measure:
        _only_with("a layer graph of PipeDream (.txt)", False, graph_file)
        with _timing(type_, cpu_time, given, output) as timing:
            graph = _module_graph(model[0], module, timing)
    else:
        graph = _graph(model[0], module, graph_file, type_)
    if times is not None:
        graph = _with_times(graph, times, type_)
    if device is not None:
        graph = _scaled_to_device(graph, device, network, benchmark, run, like, type_)
    if whole_ms is not None:
        graph = _scaled(graph, _needed(type_, "--whole-ms"), whole_ms, "given", like)
    if save is not None:
        from mecsim.dnn.profile_file import write_profile

        write_profile(graph, save)
    _report(graph, blocks, cut, live_tensors, output)


def _only_with(needed: str, present: bool, options: Mapping[str, object]) -> None:
    """Raise if an option is given that needs another one."""
    for name, value in options.items():
        if value is not None and not present:
            raise InputError(f"--{name.replace('_', '-')}: only valid with {needed}")


def _needed(type_: str | None, option: str) -> str:
    if not type_:
        raise InputError(f"{option}: needs --type NAME, the type of node that the times are for")
    return type_


@contextmanager
def _timing(
    type_: str | None, cpu_time: bool, settings: Mapping[str, int], output: Output
) -> Iterator[Timing]:
    """Yield how to measure, and show the progress."""
    import platform

    from mecsim.cli.progress import progress

    with _needs_torch("--measure"):
        from mecsim.dnn.timing import Timing
    with progress("measuring", unit="passes", quiet=output.silent) as update:
        node = type_ or platform.node() or "this-machine"
        yield Timing(node, cpu_time=cpu_time, progress=update, **settings)


def _graph(
    model: str, module: Mapping[str, Any], graph_file: Mapping[str, Any], type_: str | None
) -> LayerGraph:
    """Return the layers of whatever a user names, not measured here."""
    from mecsim.dnn.pipedream import read_pipedream
    from mecsim.dnn.profile_file import load_graph

    _only_with("a layer graph of PipeDream (.txt)", model.endswith(".txt"), graph_file)
    if _is_factory(model):
        return _module_graph(model, module, None)
    _only_with("package.module:factory or file.py:factory", False, module)
    if not model.endswith(".txt"):
        return load_graph(model)
    if graph_file["batch"] is None:
        raise InputError(
            f"{model}: needs --batch N, the inputs of the batch that was measured; times and sizes "
            "are divided by it. Try: --batch 1 if a task is a whole batch"
        )
    return read_pipedream(model, node_type=_needed(type_, model), **graph_file)


def _is_factory(model: str) -> bool:
    return ":" in model and not model.endswith((".json", ".txt"))


def _module_graph(model: str, module: Mapping[str, Any], timing: Timing | None) -> LayerGraph:
    """Return the layers of a module, from a factory or shipped."""
    from mecsim.dnn.profile_file import shipped

    with _needs_torch(model):
        from mecsim.dnn import factory, profiler, zoo
    if not _is_factory(model):
        _only_with("package.module:factory or file.py:factory", False, module)
        if model not in shipped():
            raise InputError(
                f"--measure: {model} is no module that can run; allowed: {', '.join(shipped())}, "
                "package.module:factory or file.py:factory"
            )
        with _own_warnings():
            return zoo.profile_shipped(model, timing)
    from mecsim.scenario.yaml_source import assigned

    arguments = assigned(module["argument"] or (), "--argument")
    shape, kind = _shape(module["input_shape"]), module["input_type"]
    if kind not in (None, *profiler.INPUT_TYPES):
        raise InputError(f"--input-type: {kind!r}; allowed: {', '.join(profiler.INPUT_TYPES)}")
    with _own_warnings():
        built = factory.load_factory(model, arguments)
        return profiler.profile_module(built, shape, model, input_type=kind, timing=timing)


def _shape(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in (text or "3x32x32").split("x"))
    except ValueError:
        raise InputError(f"--input-shape: {text!r}; expected the form 3x32x32") from None


@contextmanager
def _needs_torch(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"profile {what}: needs PyTorch. Try: pip install 'mecsim[torch]'"
        ) from error


@contextmanager
def _own_warnings() -> Iterator[None]:
    """Drop PyTorch's warnings about its own modules; a user's module still may warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        yield


def _with_times(graph: LayerGraph, times: Path, type_: str | None) -> LayerGraph:
    from mecsim.dnn.layer_times import read_layer_times

    node = _needed(type_, f"--times {times}")
    return graph.with_measurement(node, read_layer_times(times, graph))


def _scaled_to_device(
    graph: LayerGraph,
    device: str,
    network: str | None,
    benchmark: Path | None,
    run: str | None,
    like: str | None,
    type_: str | None,
) -> LayerGraph:
    """Scale to the time of a whole pass on a device of the catalogue or of a table."""
    from mecsim.dnn import devices

    if network is None:
        raise InputError(f"--device {device}: needs --network NAME, the network that MODEL is")
    known = devices.catalogue() if benchmark is None else devices.read_benchmark(benchmark)
    found = devices.find_device(known, device, run)
    node = type_ or (found.name if benchmark is None else _needed(None, f"--benchmark {benchmark}"))
    ms = devices.time_on(found, network, graph)
    source = f"{network} on {found.name} ({found.setting}; {found.source})"
    return _scaled(graph, node, ms, source, like)


def _scaled(
    graph: LayerGraph, node: str, whole_ms: float, source: str, like: str | None
) -> LayerGraph:
    from mecsim.dnn.devices import scaled

    if like is None:
        raise InputError(
            "--like: is needed to divide the time of a whole pass over the layers; allowed: "
            f"{', '.join((*graph.measured, 'flops'))}"
        )
    if not 0 < whole_ms < float("inf"):
        raise InputError(f"--whole-ms: {whole_ms:g} should be a number above 0")
    return scaled(graph, node, whole_ms, source, None if like == "flops" else like)


def _report(
    graph: LayerGraph, blocks: int | None, cut: str | None, live_tensors: int, output: Output
) -> None:
    from dataclasses import asdict

    from mecsim.cli import display
    from mecsim.dnn import graph as graph_module

    notes = [display.measurement_note(node, each) for node, each in graph.measured.items()]
    measured = {node: asdict(each) for node, each in graph.measured.items()}
    about = {"measured": measured} if measured else {}
    if cut is None and blocks is None:
        overview = graph_module.overview(graph, live_tensors)
        rows = graph_module.layer_table(graph, live_tensors)
        title = f"{graph.name}: 1 to {overview['max_blocks']} blocks"
        document = overview | about | {"layer_table": rows}
        output.report(document, lambda: [display.layers_table(rows, title), *notes])
        return
    made = _blocks(graph, blocks, cut, live_tensors)
    table = made.table()
    title = f"{graph.name} in {len(made)} blocks"
    output.report(
        {"model": graph.name} | about | {"blocks": table},
        lambda: [display.blocks_table(table, title), *notes],
    )


def _blocks(graph: LayerGraph, blocks: int | None, cut: str | None, live_tensors: int) -> Blocks:
    from mecsim.dnn import cuts

    if cut is None or cut == "balanced":
        if blocks is None:
            raise InputError("--cut balanced: needs --blocks M")
        return cuts.cut_balanced(graph, blocks, live_tensors)
    if cut == "stages":
        return cuts.cut_stages(graph)
    return cuts.cut_at(graph, cut.split(","), live_tensors)


def _report_models(output: Output) -> None:
    from mecsim.cli import display
    from mecsim.dnn import graph as graph_module
    from mecsim.dnn.profile_file import load_graph, shipped

    rows = [graph_module.overview(load_graph(name)) for name in shipped()]
    output.report({"models": rows}, lambda: [display.models_table(rows)])


def _report_devices(output: Output) -> None:
    from dataclasses import asdict

    from mecsim.cli import display
    from mecsim.dnn.devices import catalogue

    rows = [asdict(device) for device in catalogue()]
    output.report({"devices": rows}, lambda: [display.devices_table(rows)])
