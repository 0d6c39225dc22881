"""README.md and docs/: code blocks run, links lead somewhere, tables are complete."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import util
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from mecsim.cli import app
from mecsim.learning.options import find_learner, settings_of
from mecsim.scenario import shipped
from mecsim.scenario.loading import json_schema, load, validate
from mecsim.scenario.yaml_source import parse
from mecsim.scheduler import registry
from mecsim.verification import conformance
from schedulers.lookahead import Lookahead
from tests.docs import scenario_reference
from tests.docs.pages import PAGES, README, ROOT, Block, anchors, blocks, commands, links, prose
from tests.helpers.batches import in_this_process
from tests.helpers.examples import thorough
from tests.helpers.slow import slow_unless

LANGUAGES: Final = {"sh", "console", "python", "yaml", "toml", "text"}
SHIPPED: Final = sorted((ROOT / "scenarios").glob("*.yaml"))
LEARNERS: Final = ("mtl-a3c", "a3c", "dqn")
MOST_README_LINES: Final = 130
MOST_SCHEDULER_LINES: Final = 15

# Commands that take minutes, train, or need a cluster, or a module or a file of the reader: their
# options are checked, and they are not run.
LONG: Final = (
    re.compile(r"mecsim (train(?!.*(--settings|/throttled))|reproduce|verify)\b"),
    re.compile(r"mecsim compare .*(--episodes|--engine ray|mtl-a3c)"),
    re.compile(r"mecsim profile (my_package|graph\.txt|resnet32 --times)"),
    re.compile(r"mecsim run scenarios/alexnet.yaml$"),  # its policy must have been trained
)
LONG_PAGES: Final = ("comparing", "deployments", "gymnasium", "reports")
"""Pages whose blocks take seconds: slow tests run them."""
SHORTER: Final = ("--no-figures", "--seeds", "2" if thorough() else "1")
"""What makes a comparison short, after the options shown: the last of each counts."""
OTHER_PROGRAMS: Final = ("source", "ray", "pip")
FEWER_STEPS: Final = {"range(600)": "range(6)", ".learn(512)": ".learn(256)"}
"""What makes a Python block short."""
LOOKAHEAD_BUDGET: Final = 5
"""Of comparisons that give none; the default of 300 takes half of the time of a page."""

PRINTED: Final = {
    "make_vec": "of 16 episodes have ended",
    "env = PartitionEnv": "'mean_battery_J'",
    "import h5py": "es2.cpu",
}
"""What a Python block that contains a text prints; others print something."""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the shipped scenarios, shortened, and the shipped policies."""
    (tmp_path / "scenarios").mkdir()
    for path in SHIPPED:
        short = path.read_text(encoding="utf-8").replace("slots: 600", "slots: 3")
        (tmp_path / "scenarios" / path.name).write_text(short, encoding="utf-8")
    short_ones = {path.stem: tmp_path / "scenarios" / path.name for path in SHIPPED}
    monkeypatch.setattr(shipped, "_files", lambda: short_ones)
    defaults: Any = Lookahead.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "budget", LOOKAHEAD_BUDGET)
    shutil.copytree(ROOT / "results" / "policies", tmp_path / "results" / "policies")
    in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mecsim(arguments: list[str]) -> str:
    """Run a command in this process and return what it prints."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return result.output


def check_options(arguments: list[str]) -> None:
    """Parse a command without running it; raises click's error for an unknown option."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    name, *rest = arguments
    values = group.commands[name].make_context(name, rest).params
    if name == "train":
        known = {row["name"] for row in settings_of(values["scheduler"])}
        given = {option.partition("=")[0] for option in values["option"] or ()}
        assert given <= known, f"{given - known} of {values['scheduler']}"


def run_command(command: str) -> None:
    """Run a line of a shell block, or check it where it takes long or needs other programs."""
    program, *arguments = shlex.split(command)
    if program == "mecsim":
        draws = arguments[0] == "plot" and not util.find_spec("matplotlib")
        trains = "/throttled" in command and not util.find_spec("torch")  # in a few seconds
        if draws or trains or any(pattern.match(command) for pattern in LONG):
            check_options(arguments)
        else:
            mecsim([*arguments, *(SHORTER if arguments[0] == "compare" else ())])
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), command
    elif program == "python":
        known = util.find_spec(arguments[1]) if arguments[0] == "-m" else None
        assert known or (ROOT / arguments[0]).is_file(), command
    else:
        assert program in OTHER_PROGRAMS, command


def run_console(text: str) -> None:
    """Run the command of a console block at full size; the numbers shown are those printed.

    Lines may be left out and words may differ; the kernels give the same numbers.
    """
    command, *shown = text.removeprefix("$ ").splitlines()
    arguments = shlex.split(command)[1:]
    named = "/" not in arguments[1]
    arguments[1] = str(ROOT / (f"scenarios/{arguments[1]}.yaml" if named else arguments[1]))
    printed = mecsim([*arguments, "--kernel", "compiled", "--no-trace"])
    found = [numbers(line) for line in printed.splitlines()]
    for line in shown:
        assert not numbers(line) or numbers(line) in found, line


def numbers(line: str) -> list[str]:
    """Return the numbers of a line."""
    return re.findall(r"(?<![\w.])-?\d[\d,.]*\d|(?<![\w.])\d(?![\w.])", line)


def run_yaml(block: Block) -> None:
    """Validate a scenario, or a part of one, and keep it if it is a file."""
    if block.file is None:
        validate(parse(block.text, "block"))
    else:
        Path(block.file).write_text(block.text, encoding="utf-8")
        load(block.file)


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Execute a block, and keep it if it is a file."""
    if block.file is not None:
        Path(block.file).write_text(block.text, encoding="utf-8")
    text = block.text
    for steps, fewer in FEWER_STEPS.items():
        text = text.replace(steps, fewer)
    with redirect_stdout(io.StringIO()) as printed, one_thread(block.text):
        exec(compile(text, block.file or "block", "exec"), names)
    assert printed.getvalue() or block.file, "prints nothing"
    for text, expected in PRINTED.items():
        assert text not in block.text or expected in printed.getvalue()


@contextmanager
def one_thread(text: str) -> Iterator[None]:
    """Let PyTorch use one thread in a block that trains: its threads wait longer than they work."""
    if "stable_baselines3" not in text:
        yield
        return
    import torch  # noqa: PLC0415 - an extra

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def skip_without_modules(page: Path) -> None:
    """Skip a page whose blocks need a module that is not installed."""
    for block in blocks(page):
        if block.language == "python":
            for name in re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE):
                pytest.importorskip(name)
        if "parquet" in block.text:
            pytest.importorskip("pyarrow")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_have_options_that_exist(page: Path, workplace: Path) -> None:
    """Nothing runs: also in quick tests, which run the blocks of some pages only."""
    for block in blocks(page):
        for command in commands(block.text) if block.language == "sh" else ():
            program, *arguments = shlex.split(command)
            if program == "mecsim":
                check_options(arguments)


@pytest.mark.parametrize(
    "page",
    slow_unless([page for page in PAGES if page.stem not in LONG_PAGES], PAGES),
    ids=lambda page: page.stem,
)
def test_the_code_blocks_of_a_page_run(page: Path, workplace: Path) -> None:
    skip_without_modules(page)
    names: dict[str, Any] = {"__name__": "block"}
    for block in blocks(page):
        assert block.language in LANGUAGES, block.text
        if block.language == "sh":
            for command in commands(block.text):
                run_command(command)
        elif block.language == "console":
            run_console(block.text)
        elif block.language == "yaml":
            run_yaml(block)
        elif block.language == "python":
            run_python(block, names)
        elif block.language == "toml":
            tomllib.loads(block.text)


def test_an_unknown_option_or_a_wrong_number_is_noticed(workplace: Path) -> None:
    with pytest.raises(Exception, match="No such option"):
        run_command("mecsim train scenarios/vgg16_4es.yaml --no-such-option")
    with pytest.raises(AssertionError, match="no_such"):
        run_command("mecsim train scenarios/vgg16_4es.yaml --option no_such=1")
    with pytest.raises(AssertionError, match=r"0\.7"):
        run_console(
            "$ mecsim run scenarios/vgg16_4es.yaml --scheduler fixed --set slots=1 "
            "--option placement=[1,1,1,1,1,1]\ntotal delay (s)  0.7"
        )
    with pytest.raises(AssertionError, match="make nothing"):
        run_command("make nothing")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, section = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not section or section in anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert set(PAGES) - {README} <= linked


def test_the_readme_is_short_and_has_the_words_people_search_for() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_README_LINES
    words = (
        "task offloading",
        "DNN partitioning",
        "edge inference",
        "mobile edge computing",
        "discrete-event simulation",
        "common random numbers",
    )
    assert [word for word in words if word not in " ".join(text.split())] == []


def test_images_are_small_and_used() -> None:
    used = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    for image in (ROOT / "docs" / "images").iterdir():
        assert image.stat().st_size < 150_000, image
        assert image in used, image


def test_the_example_scheduler_is_short_and_conforms(workplace: Path) -> None:
    (block,) = [each for each in blocks(README) if each.file == "my_scheduler.py"]
    code = [line for line in block.text.splitlines()[1:] if line.strip()]
    assert len(code) <= MOST_SCHEDULER_LINES
    (workplace / "my_scheduler.py").write_text(block.text, encoding="utf-8")
    passed = conformance.check_scheduler("my_scheduler.py:KeepFirst")
    assert len(passed) == len(conformance.SHAPES)


def test_the_scenario_shown_in_full_is_the_default_one() -> None:
    shown = blocks(ROOT / "docs" / "scenarios.md")[0].text
    default = load(ROOT / "scenarios" / "vgg16_4es.yaml")
    assert validate(parse(shown, "block")).sha256() == default.sha256()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_scenario_is_listed_and_described(path: Path) -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert f"| `{path.stem}` |" in page
    assert load(path).description


def test_every_scheduler_is_listed() -> None:
    for page in (README, ROOT / "docs" / "schedulers.md"):
        listed = re.findall(r"^\| `([\w-]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(registry.names()) <= set(listed), page


def test_every_command_is_listed() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert [name for name in group.commands if f"| `mecsim {name}" not in page] == []


def test_the_reference_of_scenario_keys_is_current() -> None:
    command = "python -m tests.docs.scenario_reference --write"
    assert scenario_reference.current() == scenario_reference.reference(), f"run: {command}"
    assert [
        key for key in scenario_reference.every_key() if f"`{key}`" not in prose_of("scenarios")
    ] == []


def test_every_scenario_key_has_a_meaning() -> None:
    assert re.findall(r"^\| `\w+` .*\|  \|$", scenario_reference.reference(), re.MULTILINE) == []


def test_the_json_schema_is_current() -> None:
    written = (ROOT / "scenarios" / "schema.json").read_text(encoding="utf-8")
    assert written.rstrip() == json_schema().rstrip(), "run: mecsim check --schema"


@pytest.mark.parametrize(("column", "learner"), list(enumerate(LEARNERS)), ids=LEARNERS)
def test_the_table_of_training_options_is_current(column: int, learner: str) -> None:
    shown = {row[0]: row[1 + column] for row in option_rows("option") if row[1 + column]}
    assert shown == {row["name"]: row["default"] for row in settings_of(learner)}


@pytest.mark.parametrize(("column", "learner"), list(enumerate(LEARNERS)), ids=LEARNERS)
def test_the_table_of_the_preset_of_the_paper_is_current(column: int, learner: str) -> None:
    rows = option_rows("option in `paper`")
    shown = {row[0]: row[1 + column] for row in rows if row[1 + column]}
    assert shown == {name: str(x) for name, x in find_learner(learner).presets["paper"].items()}


def option_rows(head: str) -> Iterator[list[str]]:
    """Yield the rows of a table of training options, a cell each."""
    table = prose_of("learning").partition(f"| {head} | mtl-a3c | a3c | dqn |")[2]
    for line in table.partition("\n\n")[0].splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield [cells[0].strip("`"), *cells[1:4]]


def prose_of(name: str) -> str:
    """Return a page of docs/ without its code blocks."""
    return prose(ROOT / "docs" / f"{name}.md")


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]
    assert {"title", "authors", "message"} <= citation.keys()


def test_the_architecture_names_every_package() -> None:
    page = prose_of("architecture")
    packages = [path.parent.name for path in (ROOT / "mecsim").glob("*/__init__.py")]
    modules = [path.stem for path in (ROOT / "mecsim").glob("[a-z]*.py")]
    assert [name for name in packages + modules if f"`mecsim.{name}`" not in page] == []
