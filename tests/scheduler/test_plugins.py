"""Plug-in schedulers: found, loaded, configured and checked for conformance."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import InputError, SchedulerError
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import errors, registry
from mecsim.scheduler.errors import scheduler_errors
from mecsim.simulation.run import run as run_scenario
from mecsim.verification.conformance import SHAPES, check_scheduler
from tests.helpers.cli import mecsim

SMALL = Scenario.model_validate(
    {
        "slots": 3,
        "devices": 2,
        "edge_servers": 2,
        "dnn": {"blocks": 3},
        "arrivals": {"process": "slotted", "rate": 2.0},
    }
)
HEAD = """\
from __future__ import annotations
import numpy as np
from mecsim import Scheduler

class Mine(Scheduler):
    '''Somebody's own.'''
"""

Plugin = Callable[[str], str]


def indented(body: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in body.splitlines())


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    """Write the body of a class ``Mine`` to a file; return what --scheduler takes."""

    def write(body: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(indented(body), encoding="utf-8")
        return f"{path}:Mine"

    return write


def fault_of(name: str, options: dict[str, Any] | None = None) -> str:
    """What is said about a scheduler: one line that names it."""
    with pytest.raises(SchedulerError) as caught:
        run_scenario(SMALL, name, options)
    message = str(caught.value)
    assert message.startswith(f"scheduler {name!r}")
    assert len(message.splitlines()) == 1
    return message


GOOD = "def decide(self, observation):\n    return [0, 1, 2]"


# ---------------------------------------------------------------- found and loaded


def test_load_from_file(plugin: Plugin) -> None:
    assert run_scenario(SMALL, plugin(GOOD)).summary.completed == 6


def test_load_from_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").touch()
    (tmp_path / "theirs" / "deep.py").write_text(indented(GOOD), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_scenario(SMALL, "theirs.deep:Mine").summary.completed == 6


def test_load_file_with_dataclass(plugin: Plugin) -> None:
    name = plugin(
        "import dataclasses\n@dataclasses.dataclass\nclass Inner:\n    x: int = 1\n" + GOOD
    )
    assert run_scenario(SMALL, name).summary.completed == 6


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("greedi", r"is not installed; did you mean 'greedy'\? allowed: a3c, apdi, dqn, "),
        ("zzz", "is not installed; allowed: a3c, apdi"),
        ("", "is not installed; allowed: a3c, apdi"),
        ("mine.py", "names no class. Expected: path/file.py:Class"),
        ("nosuch.py:Mine", "there is no file nosuch.py"),
        ("x" * 300 + ".py:Mine", "there is no file|File name too long"),
        ("nosuch_package:Mine", "cannot be imported: ModuleNotFoundError"),
        ("json.nosuch:Mine", "cannot be imported: ModuleNotFoundError"),
        (":Mine", "cannot be imported"),
        (".relative:Mine", "cannot be imported"),
        ("json:JSONDecoder", "json has no mecsim.Scheduler called 'JSONDecoder'; it has: none"),
        ("json:loads", "no mecsim.Scheduler called 'loads'"),
        ("schedulers.greedy:Gready", "called 'Gready'; it has: Greedy"),
        ("schedulers.greedy:", "called ''; it has: Greedy"),
        ("mecsim.scheduler.base:Scheduler", "cannot be made: TypeError: .*abstract"),
    ],
)
def test_load_invalid_name(name: str, problem: str) -> None:
    with pytest.raises(SchedulerError, match=problem):
        raise SchedulerError(fault_of(name))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("class Mine(:\n", "mine.py cannot be imported: SyntaxError: .*line 1"),
        ("raise RuntimeError('two\\nlines')\n", "cannot be imported: RuntimeError: two lines"),
        ("import sys\nsys.exit(0)\n", "cannot be imported: SystemExit: 0"),
        ("import nosuch_package\n", "cannot be imported: ModuleNotFoundError"),
        ("Mine = 5\n", "has no mecsim.Scheduler called 'Mine'; it has: none"),
        ("class Mine: pass\n", "has no mecsim.Scheduler called 'Mine'; it has: none"),
        (HEAD.replace("Mine", "Other"), "called 'Mine'; it has: Other"),
        ("\0", "cannot be imported: "),
        ("caf\xe9 = 1 # coding: \xff\n", "has no mecsim.Scheduler"),
    ],
)
def test_load_broken_file(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SchedulerError, match=problem):
        raise SchedulerError(fault_of(f"{path}:Mine"))
    assert "mecsim_user_mine" not in sys.modules or "called" in problem or "no mecsim" in problem


# ---------------------------------------------------------------- made and asked


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("pass", "cannot be made: TypeError: .*decide"),
        ("def __init__(self, spec):\n    raise OSError('no policy')", "cannot be made"),
        (
            "def __init__(self, spec):\n    raise SystemExit(0)\n" + GOOD,
            "cannot be made: SystemExit",
        ),
        ("def __init__(self):\n    pass\n" + GOOD, "cannot be made: TypeError"),
        (
            "def decide(self, observation):\n    raise KeyError('x')",
            "epoch 0: raised KeyError: 'x'",
        ),
        (
            "def decide(self, observation):\n    return 1 / observation.time_s",
            "epoch 0: raised Zero",
        ),
        (
            "def decide(self, observation):\n    return [0, 1, 2][observation.epoch:] * 3",
            "epoch 0: the placement has the shape (9,); allowed: (3,), one place a block",
        ),
    ],
)
def test_scheduler_raises(plugin: Plugin, body: str, problem: str) -> None:
    message = fault_of(plugin(body))
    assert problem in message or re.search(problem, message), message


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("[0, 1]", "has the shape (2,); allowed: (3,), one place a block"),
        ("[[0, 1, 2]]", "has the shape (1, 3)"),
        ("[[0, 1, 2], [0]]", "is not a list of places"),
        ("[]", "holds float64; allowed: integers"),
        ("1", "has the shape ()"),
        ("[0, 1, 2.0]", "[0, 1, 2.0] holds float64; allowed: integers"),
        ("[0.5, 1, 2]", "holds float64"),
        ("np.full(3, np.nan)", "holds float64; allowed: integers"),
        ("np.full(3, np.inf)", "holds float64; allowed: integers"),
        ("[True, False, True]", "holds bool; allowed: integers"),
        ("['0', '1', '2']", "allowed: integers"),
        ("'012'", "allowed: integers"),
        ("None", "None holds object; allowed: integers"),
        ("[0, None, 1]", "holds object; allowed: integers"),
        ("{0, 1, 2}", "holds object; allowed: integers"),
        ("(n for n in (0, 1, 2))", "holds object; allowed: integers"),
        ("[0, 1, 3]", "puts block 2 at 3; allowed: 0 (the device) to 2"),
        ("[0, -1, 1]", "puts block 1 at -1; allowed: 0 (the device) to 2"),
        ("[0, 1, 2**40]", "puts block 2 at 1099511627776"),
        ("[0, 1, 2**63]", "allowed: integers"),
        ("np.array([0, 1, 2**63], 'u8')", "puts block 2 at 9223372036854775808"),
        ("[0, 1, 2**99]", "allowed: integers"),
        ("np.array([0, 1, 300], 'u2')", "puts block 2 at 300"),
    ],
)
def test_invalid_placement(plugin: Plugin, answer: str, problem: str) -> None:
    message = fault_of(plugin(f"def decide(self, observation):\n    return {answer}"))
    assert ", epoch 0: the placement" in message
    assert problem in message


def test_invalid_placement_names_epoch_and_device(plugin: Plugin) -> None:
    name = plugin("def decide(self, observation):\n    return [observation.epoch, 0, 0]")
    assert ", epoch 3, device 1: the placement puts block 0 at 3" in _by_task(name)


def _by_task(name: str) -> str:
    with pytest.raises(SchedulerError) as caught:
        run_scenario(SMALL.model_copy(update={"decision_epoch": "per_task"}), name)
    return str(caught.value)


@pytest.mark.parametrize(
    "field",
    ["cycles", "parameter_bytes", "input_bits", "rate_bps", "serving_server", "server_backlog_s",
     "device_backlog_s", "uplink_backlog_s", "downlink_backlog_s", "link_backlog_s", "battery_j"],
)  # fmt: skip
def test_observation_arrays_are_read_only(plugin: Plugin, field: str) -> None:
    name = plugin(f"def decide(self, observation):\n    observation.{field}[0] = 0")
    assert "epoch 0: raised ValueError: assignment destination is read-only" in fault_of(name)


@pytest.mark.parametrize(
    "field",
    [
        "server_hz",
        "device_hz",
        "tolerated_s",
        "cores",
        "links.rate_bps",
    ],
)
def test_spec_arrays_are_read_only(plugin: Plugin, field: str) -> None:
    name = plugin(f"def decide(self, observation):\n    self.spec.{field}[0] = 0")
    assert "read-only" in fault_of(name)


def test_observation_is_frozen(plugin: Plugin) -> None:
    name = plugin("def decide(self, observation):\n    observation.tasks = 0")
    assert "FrozenInstanceError" in fault_of(name)


# ---------------------------------------------------------------- options

OPTIONS = """\
def __init__(self, spec, *, count: int, rate: float = 0.5, places: list[int] | None = None,
             mode: str = "fast", quiet: bool = False, model_path: str = "", copy: int = 1):
    super().__init__(spec)
    self.reported = (count, rate, places, mode, quiet)
"""


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "option count: is needed. Try: --option count=VALUE"),
        ({"count": 1, "coutn": 2}, "has no option 'coutn'; did you mean 'count'? allowed: count, "),
        ({"count": 1, "spec": 2}, "has no option 'spec'"),
        ({"count": "many"}, "option count: 'many' should be a valid integer"),
        ({"count": 1.5}, "option count: 1.5 should be a valid integer"),
        ({"count": None}, "option count: None should be a valid integer"),
        ({"count": [1]}, "option count: [1] should be a valid integer"),
        ({"count": 1, "rate": "high"}, "option rate: 'high' should be a valid number"),
        ({"count": 1, "places": [0, "x"]}, "option places.1: 'x' should be a valid integer"),
        ({"count": 1, "mode": 5}, "option mode: 5 should be a valid string"),
        ({"count": 1, "quiet": "maybe"}, "option quiet: 'maybe' should be a valid boolean"),
        ({"count": "x" * 5000}, "option count: 'xxxxxxx"),
    ],
)
def test_invalid_options(plugin: Plugin, options: dict[str, Any], problem: str) -> None:
    message = fault_of(plugin(OPTIONS + GOOD), options)
    assert problem in message
    assert len(message) < 500


def test_valid_options_are_converted(plugin: Plugin) -> None:
    options = {"count": 3, "rate": 1, "model_path": "x", "copy": 2}  # names that pydantic uses too
    name = plugin(OPTIONS + "def decide(self, observation):\n    raise ValueError(self.reported)")
    assert "ValueError: (3, 1.0, None, 'fast', False)" in fault_of(name, options)


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        ("*, x: Nowhere", "options whose types cannot be read: NameError"),
        ("*args", "has no option 'x'; allowed: none"),
        ("**more", "has no option 'x'; allowed: none"),
        ("*, x: 5", "option x"),
    ],
)
def test_options_of_odd_signatures(plugin: Plugin, signature: str, problem: str) -> None:
    body = f"def __init__(self, spec, {signature}):\n    super().__init__(spec)\n" + GOOD
    assert problem in fault_of(plugin(body), {"x": 1})


def test_option_without_type_takes_anything(plugin: Plugin) -> None:
    body = "def __init__(self, spec, x=None):\n    super().__init__(spec)\n" + GOOD
    assert run_scenario(SMALL, plugin(body), {"x": {"any": "thing"}}).summary.completed == 6


# ---------------------------------------------------------------- installed ones


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that modules are installed under entry points of their names."""

    def install(**modules: str) -> None:
        points = []
        for name, text in modules.items():
            package = tmp_path / f"fake_{name}"
            package.mkdir()
            (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
            (package / "inner.py").write_text(text, encoding="utf-8")
            points.append(EntryPoint(name, f"fake_{name}.inner:Mine", registry.GROUP))
        points.append(EntryPoint("gone", "fake_gone.inner:Mine", registry.GROUP))
        points.append(EntryPoint("odd", "json", registry.GROUP))
        real = importlib.metadata.entry_points
        both = [*real(group=registry.GROUP), *points]
        monkeypatch.setattr(registry, "entry_points", lambda group: both)
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_broken_plugin_harms_no_other(installed: Callable[..., None]) -> None:
    installed(bad="raise RuntimeError", syntax="from (", good=indented(OPTIONS + GOOD))
    found = {name: registry.describe(name) for name in registry.names()}
    assert found["greedy"].summary.startswith("Each block in turn")
    assert found["good"].summary == "Somebody's own."
    assert list(found["good"].options)[:2] == ["count", "rate"]
    for name in ("bad", "syntax", "gone", "odd"):
        assert found[name].summary.startswith("broken: ")
        with pytest.raises(SchedulerError, match=f"scheduler {name!r}: "):
            registry.load(name)
    assert run_scenario(SMALL, "greedy").summary.completed == 6
    assert not [name for name in sys.modules if name.startswith("fake_")]


def test_describe_lists_inherited_options(installed: Callable[..., None]) -> None:
    inherited = registry.describe("mtl-a3c").options  # from mecsim.learning.interface
    assert inherited == {"policy": "str = ''", "features": "str = ''"}
    above = "class Above:\n    def __init__(self, spec, *, share: float = 0.5): ...\n"
    own = "from fake_above.inner import Above as Base\nclass Mine(Base): 'Own.'\n"
    near = "from ..inner import Mine\n"  # there is no package above
    within = "class Up:\n    def __init__(self, spec, count: int): ...\nclass Mine(Up): 'Within.'\n"
    none = "class Up:\n    def __init__(self, spec): ...\n"
    both = "from fake_above.inner import Above\n" + none + "class Mine(Up, Above): 'Both.'\n"
    lost = "from nowhere import Base\nclass Mine(Base): 'Lost.'\n"
    installed(above=above, own=own, within=within, both=both, lost=lost, near=near)
    assert registry.describe("own").options == {"share": "float = 0.5"}
    assert registry.describe("within").options == {"count": "int"}
    assert registry.describe("both").options == {}  # its first base takes none
    assert registry.describe("near").summary.startswith("broken: ")
    assert registry.describe("lost") == registry.Description("lost", "Lost.", {})


def test_listing_imports_no_scheduler() -> None:
    program = (
        "import sys\nfrom mecsim.scheduler import registry\n"
        "found = [registry.describe(name) for name in registry.names()]\n"
        "assert len(found) >= 7 and not [d for d in found if 'broken' in d.summary], found\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('schedulers', 'torch')]\n"
        "sys.exit(f'imported {bad}' if bad else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_command_line_exits_with_2(plugin: Plugin, tmp_path: Path) -> None:
    name = plugin("def decide(self, observation):\n    return [0]")
    (tmp_path / "s.yaml").write_text("slots: 2\n", encoding="utf-8")
    done = mecsim("run", "s.yaml", "--scheduler", name, cwd=tmp_path, code=2)
    assert done.stdout == ""
    assert done.stderr.startswith(f"mecsim: scheduler {name!r}, epoch 0: the placement")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.h5"))


# ---------------------------------------------------------------- the conformance check


@pytest.mark.parametrize("name", registry.names())
def test_installed_schedulers_conform(name: str) -> None:
    if name == "sb3":
        pytest.importorskip("torch")
    options = {"placement": [0, 1, 1]} if name == "fixed" else {}
    assert check_scheduler(name, options) == list(SHAPES)


def test_conforming_plugin(plugin: Plugin) -> None:
    body = "def decide(self, observation):\n    return self.spec.rng.integers(2, size=3)"
    assert check_scheduler(plugin(body)) == list(SHAPES)


DECIDE = "def decide(self, observation):\n    "


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return np.random.randint(2, size=3)", "random"),
        ("np.random.seed(1)\n    return [0, 0, 1]", "uses a global random generator"),
        (
            "import random\n    random.random()\n    return [0, 0, 1]",
            "uses a global random generator; expected spec.rng only",
        ),
        (
            "return np.random.default_rng().integers(2, size=3)",
            "decides differently when run twice under one seed",
        ),
        ("return [0, 0, 0, 0]", "has the shape (4,)"),
        ("return [0, 0, 2]", "one server"),
        ("observation.battery_j[:] = 0\n    return [0] * 3", "read-only"),
        ("return [0] * 3\ndef run_ended(self):\n    raise ValueError('late')", "ValueError: late"),
        (
            "return [0] * 3\ndef epoch_ended(self, seen, placement, reward):\n    placement[0] = 1",
            "read-only",
        ),
    ],
)
def test_nonconforming_plugin(plugin: Plugin, body: str, problem: str) -> None:
    name = plugin(DECIDE + body)
    with pytest.raises(InputError) as caught:
        check_scheduler(name)
    message = str(caught.value)
    assert problem in message
    assert message.startswith(f"scheduler {name!r}")
    assert " (on a scenario with " in message


def test_a_scheduler_for_task_epochs_only(plugin: Plugin) -> None:
    only = 'decision_epochs = ("per_task",)\n'
    body = DECIDE + "return [0, 1, observation.device % 2]"
    with pytest.raises(SchedulerError) as caught:
        check_scheduler(plugin(body))
    remedy = '. Try, if it is for decisions per task only: decision_epochs = ("per_task",)'
    assert str(caught.value).endswith(" (on a scenario with slot epochs)" + remedy)
    name = plugin(only + body)
    assert check_scheduler(name) == [each for each in SHAPES if each != "slot epochs"]
    assert fault_of(name) == (
        f"scheduler {name!r}: decides per_task only, and decision_epoch is per_slot. Try: "
        "decision_epoch: per_task in the scenario, or another scheduler"
    )
    assert f"{name} conforms" in mecsim("schedulers", "--check", name).stdout.replace("\n", "")


def test_a_made_scheduler_for_task_epochs_only(plugin: Plugin) -> None:
    cls = registry.load(plugin('decision_epochs = ("per_task",)\n' + GOOD))
    for scheduler in (cls, lambda spec: cls(spec)):  # noqa: PLW0108 - a function, not a class
        with pytest.raises(SchedulerError, match="decides per_task only"):
            run_scenario(SMALL, scheduler)


def test_a_scheduler_for_slot_epochs_only(plugin: Plugin) -> None:
    body = DECIDE + "return [0, 1, {None: 1}[observation.device]]"
    name = plugin('decision_epochs = ("per_slot",)\n' + body)
    assert check_scheduler(name) == [each for each in SHAPES if each != "task epochs"]


@pytest.mark.parametrize("epochs", ['"per_task"', "()", '("per_day",)', "None"])
def test_unknown_decision_epochs(plugin: Plugin, epochs: str) -> None:
    name = plugin(f"decision_epochs = {epochs}\n" + GOOD)
    assert "decision_epochs is " in fault_of(name)
    with pytest.raises(SchedulerError, match="allowed: a tuple of "):
        check_scheduler(name)


# ---------------------------------------------------------------- the place of an exception


def test_an_exception_is_told_with_its_place(plugin: Plugin, tmp_path: Path) -> None:
    name = plugin("def decide(self, observation):\n    return self.pick()\n"
                  "def pick(self):\n    return np.concatenate([[0], 'x'])")  # fmt: skip
    assert fault_of(name).endswith(f" ({tmp_path / 'mine.py'}, line 10)")
    static = plugin("static = True\ndef decide(self, observation):\n    return 1 / 0")
    assert fault_of(static).endswith(f" ({tmp_path / 'mine.py'}, line 9)")
    made = plugin("def __init__(self, spec):\n    raise OSError('no policy')\n" + GOOD)
    assert fault_of(made).endswith(f"OSError: no policy ({tmp_path / 'mine.py'}, line 8)")
    ended = plugin(GOOD + "\ndef run_ended(self):\n    raise ValueError('late')")
    assert fault_of(ended).endswith(f"ValueError: late ({tmp_path / 'mine.py'}, line 10)")


def test_the_place_of_an_exception_at_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import os\nimport nosuch_package\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert fault_of("mine.py:Mine").endswith("'nosuch_package' (mine.py, line 2)")
    assert fault_of("nosuch_package:Mine").endswith("No module named 'nosuch_package'")


def test_the_place_in_an_installed_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(module: str) -> str:
        with pytest.raises(SchedulerError) as caught, scheduler_errors("failed:", module=module):
            raise ValueError
        return str(caught.value)

    monkeypatch.setattr(errors, "is_installed", lambda path: True)
    assert told("another_package.inner") == "failed: ValueError:"
    assert re.search(r"^failed: ValueError: \(\S*test_plugins\.py, line \d+\)$", told(__name__))


# ---------------------------------------------------------------- files beside a scheduler's file


def write(folder: Path, **files: str) -> None:
    """Write Python files; a ``__`` in a name stands for a folder."""
    for name, text in files.items():
        path = folder.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def with_sibling(folder: Path, places: str) -> str:
    """A scheduler whose placement is in a module beside its file."""
    mine = indented(DECIDE + "return PLACES").replace("import numpy as np", "import beside")
    write(folder, mine=mine.replace("PLACES", "beside.PLACES"), beside=f"PLACES = {places}\n")
    return f"{folder / 'mine.py'}:Mine"


def test_a_file_imports_its_siblings(tmp_path: Path) -> None:
    first, second = (with_sibling(tmp_path / n, f"[{n}, 0, 0]") for n in "12")
    paths = list(sys.path)
    for name, place in ((first, 1), (second, 2), (first, 1)):  # each its own, of one module name
        found = run_scenario(SMALL, name).summary.resources
        used = {each.name: each.utilization for each in found}
        assert used[f"es{place}.cpu"] > 0 == used.get(f"es{3 - place}.cpu", 0)
    assert sys.path == paths


def test_a_changed_sibling_is_read_again(tmp_path: Path) -> None:
    name = with_sibling(tmp_path, "[0, 1, 2]")
    run_scenario(SMALL, name)
    (tmp_path / "beside.py").write_text("PLACES = [0, 1, 3]\n", encoding="utf-8")
    assert "puts block 2 at 3" in fault_of(name)


def test_siblings_are_packages_and_imported_late(tmp_path: Path) -> None:
    late = indented(
        DECIDE + "from kit.inner import places\n    import plain.deep as deep\n"
        "    return places() if deep.GOOD else None"
    )
    write(
        tmp_path,
        mine=late,
        kit____init__="",
        kit__inner="from .more import PLACES\ndef places(): return PLACES\n",
        kit__more="PLACES = [0, 1, 2]",
        plain__deep="GOOD = True",  # a folder without __init__.py
        queue="raise RuntimeError('not the standard library')",
    )
    assert run_scenario(SMALL, f"{tmp_path / 'mine.py'}:Mine").summary.completed == 6


def test_the_place_in_a_sibling(tmp_path: Path) -> None:
    name = with_sibling(tmp_path, "1 / 0")
    assert fault_of(name).endswith(f"division by zero ({tmp_path / 'beside.py'}, line 1)")
