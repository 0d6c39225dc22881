"""The command line: parses, calls, prints; no logic."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from mecsim.errors import InputError, Interrupted, MecsimError, OutputError, SchedulerError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mecsim.dnn import LayerGraph

app = typer.Typer(
    help="Simulate edge networks that run distributed DNN inference, and compare schedulers.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).")]
TracePath = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file (HDF5).")]
SchedulerName = Annotated[
    str,
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help="An installed name (see `mecsim schedulers`), package.module:Class or file.py:Class.",
    ),
]
Options = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the scheduler. Repeatable."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a scenario value. Repeatable."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random draw.")]
KernelName = Annotated[
    str, typer.Option("--kernel", metavar="NAME", help="Event loop: simpy or compiled (fast).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print neither progress nor tables.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def run(
    scenario: ScenarioPath,
    scheduler: SchedulerName = "greedy",
    option: Options = None,
    set_: Overrides = None,
    seed: Seed = 0,
    kernel: KernelName = "simpy",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", metavar="PATH", help="Trace file (.h5), or a folder for it. Default: results/."
        ),
    ] = None,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Write no trace.")] = False,
    bound: Annotated[
        bool, typer.Option("--bound", help="Also tell what the tasks cost at least.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Simulate one scenario under one scheduler; write a trace and print a summary."""
    from mecsim import display, experiment
    from mecsim.scenario import load

    if no_trace and out is not None:
        raise InputError("--out: does not go with --no-trace")
    loaded = load(scenario, set_ or [])
    changes = [*(set_ or []), *(option or [])]
    name = f"{scenario.stem} ({', '.join(set_)})" if set_ else scenario.stem
    default = f"{scenario.stem}-{_file_part(scheduler)}-{seed}{_tag(changes)}.h5"
    path = None if no_trace else _out(out, default)
    with (
        display.progress(f"{scheduler} on {scenario.stem}", quiet=quiet or json_) as progress,
        _stdout_kept(json_),
    ):
        result = experiment.run(
            loaded,
            scheduler,
            _options(option),
            name=name,
            seed=seed,
            kernel=kernel,
            out=path,
            bound=bound,
            progress=progress,
        )
    _print_summary(result.summary, json_=json_, quiet=quiet)


@app.command()
def check(
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).", show_default=False),
    ] = None,
    set_: Overrides = None,
    seed: Seed = 0,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of scenarios instead.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Validate a scenario and print it resolved: every value, in SI units."""
    from mecsim.scenario import json_schema, load

    if schema:
        _write(json_schema())
        return
    if scenario is None:
        raise InputError("SCENARIO: is missing; give a scenario file, or --schema")
    from mecsim import display, documents
    from mecsim.model import resolve

    loaded = load(scenario, set_ or [])
    model = resolve(loaded, seed)
    if json_:
        _print_json({"scenario": loaded.model_dump(mode="json"), "blocks": model.block_table()})
    elif not quiet:
        _write(documents.dump(loaded.model_dump(mode="json")))
        title = "Blocks (per task of size factor 1)"
        _print_comment(display.blocks_table(model.block_table(), title))


@app.command()
def replay(
    trace: TracePath,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--scheduler",
            metavar="NAME",
            help="Put this scheduler on the recorded tasks and channels, and compare.",
        ),
    ] = None,
    option: Options = None,
    kernel: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--kernel", metavar="NAME", help="Event loop; default: the recorded one."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="PATH", help="With --scheduler: write its trace here."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rebuild a run from its trace alone and compare every column with ==.

    With --scheduler: run that scheduler on the same recorded tasks and channels instead, and print
    both side by side.
    """
    from mecsim import display, experiment

    if scheduler is None and (option or out):
        raise InputError("--option and --out: go with --scheduler only")
    with display.progress(f"replaying {trace.name}", quiet=quiet or json_) as progress:
        recorded = experiment.replay(trace, kernel=kernel, progress=progress)
    same = recorded.difference is None
    document: dict[str, Any] = {
        "trace": str(trace),
        "identical": same,
        "complete": recorded.complete,
        "rows": recorded.rows,
        "difference": None if same else str(recorded.difference),
    }
    if scheduler is not None and same:
        path = None if out is None else _out(out, f"{trace.stem}-{_file_part(scheduler)}.h5")
        with (
            display.progress(f"{scheduler} on {trace.name}", quiet=quiet or json_) as progress,
            _stdout_kept(json_),
        ):
            other = experiment.replay_with(
                trace, scheduler, _options(option), kernel=kernel, out=path, progress=progress
            )
        document["recorded"], document["other"] = recorded.summary, other.summary
    _print_replay(document, json_=json_, quiet=quiet)
    raise typer.Exit(0 if same else 1)


@app.command()
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
        typer.Option("--cut", metavar="CUT", help="stages, or layers to cut after: conv1,pool2."),
    ] = None,
    input_shape: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--input-shape", metavar="CxHxW", help="Of a factory's module; 3x32x32."),
    ] = None,
    save: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--save", metavar="FILE", help="Save the profile as JSON for scenarios."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped models.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show a DNN's layers, its legal cuts and its blocks (c_m, d_m, I_m)."""
    from mecsim import display, dnn

    if list_ or model is None:
        _print_models(json_=json_)
        return
    graph = _graph(model, input_shape)
    if save is not None:
        from mecsim.profile_file import write_profile

        write_profile(graph, save)
    if quiet and not json_:
        return
    if cut is None and blocks is None:
        _print_layers(graph, json_=json_)
        return
    if cut is None or cut == "balanced":
        if blocks is None:
            raise InputError("--cut balanced: needs --blocks M")
        made = dnn.cut_balanced(graph, blocks)
    else:
        made = dnn.cut_stages(graph) if cut == "stages" else dnn.cut_at(graph, cut.split(","))
    table = made.table()
    if json_:
        _print_json({"model": graph.name, "blocks": table})
    else:
        _print(display.blocks_table(table, f"{graph.name} in {len(made)} blocks"))


@app.command()
def export(
    trace: TracePath,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, parquet or perfetto.")
    ] = "csv",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="PATH", help="Folder, or file for perfetto."),
    ] = None,
    begin: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--from", metavar="S", help="Perfetto: services that end after this time."),
    ] = None,
    end: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--to", metavar="S", help="Perfetto: services that begin before this time."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a trace as CSV, as Parquet, or as a timeline for https://ui.perfetto.dev."""
    from mecsim import export as exporting

    files = [str(path) for path in exporting.export(trace, format_, out, begin, end)]
    if json_:
        _print_json({"trace": str(trace), "format": format_, "files": files})
    elif not quiet:
        _write("\n".join(files))


@app.command()
def schedulers(
    check_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--check", metavar="NAME", help="Run the conformance check on a scheduler."),
    ] = None,
    option: Options = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the installed schedulers with their options, or check one of any origin."""
    from mecsim import display, registry

    if check_ is not None:
        from mecsim.conformance import check_scheduler

        registry.load(check_)
        try:
            with _stdout_kept(json_):
                shapes = check_scheduler(check_, _options(option))
        except SchedulerError as error:
            _print_nonconforming(check_, str(error), json_=json_)
            raise typer.Exit(1) from None
        if json_:
            _print_json({"scheduler": check_, "passed": shapes})
        elif not quiet:
            _print(f"[green]{check_} conforms[/green]: checked with {', '.join(shapes)}")
        return
    if option:
        raise InputError("--option: goes with --check only")
    found = [registry.describe(name) for name in registry.names()]
    if json_:
        _print_json({"schedulers": [vars(each) for each in found]})
        return
    if quiet:
        return
    rows = [[each.name, each.summary, _signature(each.options)] for each in found]
    _print(display.plain_table(["scheduler", "what it does", "options"], rows, text=3))


@app.command()
def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller samples, in seconds.")] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE", help="Also write the table as Markdown."),
    ] = None,
    kernel: KernelName = "simpy",
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the known-answer suite: queueing theory, equations, exact recursions, replay."""
    from mecsim import display
    from mecsim import verify as verifying

    with display.progress("verifying", unit="checks", quiet=quiet or json_) as progress:
        outcomes = verifying.run_checks(progress, quick=quick, kernel=kernel)
    passed = sum(each.ok for each in outcomes)
    if out is not None:
        _write_file(out, verifying.as_markdown(outcomes))
    if json_:
        _print_json({"checks": [vars(each) for each in outcomes]})
    elif not quiet:
        _print(
            display.checks_table(verifying.HEADER, verifying.rows(outcomes)),
            f"{passed} of {len(outcomes)} checks passed (--out FILE writes what is known and how)",
        )
    raise typer.Exit(0 if passed == len(outcomes) else 1)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Hold the options that belong to no command."""
    if version:
        from importlib.metadata import version as installed

        _write(f"mecsim {installed('mecsim')}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; tell errors in one line and exit with the code they have."""
    sys.path.append(str(Path.cwd()))  # so that package.module:Class finds what lies here
    try:
        app(standalone_mode=True)
    except Interrupted as error:
        _fail(str(error), 130)
    except KeyboardInterrupt:
        _fail("stopped; nothing was written", 130)
    except BrokenPipeError:
        os._exit(0)  # the reader of our output has gone
    except OSError as error:  # files have errors of their own: this is stdout
        if "--debug" in sys.argv:
            raise
        _tell(f"the output cannot be written: {error.strerror}")
        os._exit(2)  # without another try at exit
    except MecsimError as error:
        if "--debug" in sys.argv:
            raise
        _fail(str(error), 2)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    _tell(message)
    sys.exit(code)


def _tell(message: str) -> None:
    for line in message.splitlines() if sys.stderr is not None else ():
        print(f"mecsim: {line}", file=sys.stderr, flush=True)  # noqa: T201


def _options(pairs: Sequence[str] | None) -> dict[str, Any]:
    from mecsim import documents

    document = documents.Document({})
    for pair in pairs or ():
        documents.assign(document, pair, "--option")
    return document.values


def _out(out: Path | None, default: str) -> Path:
    if out is None:
        return Path("results") / default
    if out.suffix in (".h5", ".hdf5"):
        return out
    if out.suffix and not out.is_dir():
        raise InputError(f"--out: {out}: allowed: a name that ends in .h5, or a folder")
    return out / default


def _tag(changes: Sequence[str]) -> str:
    """Return what keeps the trace of a changed scenario apart from others."""
    if not changes:
        return ""
    from hashlib import sha256

    return "-" + sha256("\n".join(changes).encode()).hexdigest()[:6]


def _stdout_kept(json_: bool) -> AbstractContextManager[Any]:
    """Keep stdout for the one JSON document, whatever a scheduler prints."""
    return redirect_stdout(sys.stderr) if json_ else nullcontext()


def _file_part(scheduler: str) -> str:
    return Path(scheduler.partition(":")[2] or scheduler).name


def _write_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def _write(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")


def _print_json(document: Any) -> None:
    _write(json.dumps(document, indent=2, allow_nan=False, default=str))


def _print(*parts: RenderableType) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, 80)  # let a narrow terminal wrap: no digit is ever cut
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def _print_comment(table: RenderableType) -> None:
    """Print a table as YAML comments, so that all that is printed can be read back."""
    from rich.console import Console

    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        console.print(table)
    _write("".join(f"# {line.rstrip()}\n" for line in captured.get().splitlines()))


def _print_nonconforming(name: str, problem: str, *, json_: bool) -> None:
    from rich.markup import escape

    if json_:
        _print_json({"scheduler": name, "passed": [], "problem": problem})
    else:
        _print(f"[red]{escape(name)} does not conform[/red]: {escape(problem)}")


def _print_summary(summary: dict[str, Any], *, json_: bool, quiet: bool) -> None:
    from mecsim import display

    if json_:
        _print_json(summary)
    elif not quiet:
        _print(
            display.summary_table(summary),
            display.totals_line(summary),
            *([display.bound_line(summary["lower_bound"])] if "lower_bound" in summary else []),
            "",
            display.resources_table(summary["resources"]),
            "",
            display.speed_line(summary),
        )


def _print_replay(document: dict[str, Any], *, json_: bool, quiet: bool) -> None:
    from mecsim import display

    if json_:
        _print_json(document)
        return
    rows = sum(document["rows"].values())
    part = "" if document["complete"] else " (of a run that was cut short: as far as it goes)"
    if not document["identical"]:
        _print(f"[red]different[/red]: {document['difference']}")
    elif not quiet:
        _print(f"[green]identical[/green]: all columns, {rows:,} rows{part}")
    if "other" in document and not quiet:
        _print("", display.comparison_table([document["recorded"], document["other"]]))


def _graph(model: str, input_shape: str | None) -> LayerGraph:
    from mecsim.profile_file import load_graph

    if ":" not in model:
        if input_shape is not None:
            raise InputError("--input-shape: goes with package.module:factory only")
        return load_graph(model)
    try:
        from mecsim import profiler
    except ImportError as error:
        raise InputError(
            f"profile {model}: needs PyTorch; install it with pip install 'mecsim[torch]'"
        ) from error
    try:
        shape = tuple(int(size) for size in (input_shape or "3x32x32").split("x"))
    except ValueError:
        raise InputError(f"--input-shape: {input_shape!r} is not of the form 3x32x32") from None
    return profiler.profile_module(profiler.load_factory(model), shape, model)


def _print_models(*, json_: bool) -> None:
    from mecsim import display, dnn
    from mecsim.profile_file import load_graph, shipped

    rows = [dnn.overview(load_graph(name)) for name in shipped()]
    if json_:
        _print_json({"models": rows})
    else:
        _print(display.models_table(rows))


def _print_layers(graph: LayerGraph, *, json_: bool) -> None:
    from mecsim import display, dnn

    overview, rows = dnn.overview(graph), dnn.layer_table(graph)
    if json_:
        _print_json(overview | {"layer_table": rows})
    else:
        title = f"{graph.name}: 1 to {overview['max_blocks']} blocks"
        _print(display.layers_table(rows, title))


def _signature(options: dict[str, str]) -> str:
    from rich.markup import escape

    return escape(", ".join(f"{name}: {kind}" for name, kind in options.items()))
