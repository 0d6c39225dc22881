"""YAML to plain data: scalars, places, ``extends``, ``--set``; and nothing else comes out."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mecsim.errors import ScenarioError
from mecsim.scenario import yaml_source
from mecsim.scenario.loading import from_json, load, validate
from mecsim.scenario.schema import Scenario
from mecsim.scenario.yaml_source import Document, assign, parse, read
from tests.helpers.examples import examples


def values_of(text: str) -> dict[str, Any]:
    return parse(text, "f").values


def write(folder: Path, **files: str) -> Path:
    """Write files of the given names and return the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


# ---------------------------------------------------------------- scalars and places


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("010", 10),  # not octal, as in YAML 1.1
        ("08", 8),
        ("1e-26", 1e-26),  # a text in YAML 1.1
        ("1.", 1.0),
        (".5", 0.5),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("no", "no"),  # false in YAML 1.1
        ("on", "on"),
        ("1:30", "1:30"),  # 90 in YAML 1.1
        ("0x64", 100),
        ("0xfF", 255),
        ("0o100", 64),
        ("-0x10", "-0x10"),  # the core schema has no sign here
        ("0o8", "0o8"),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),  # a date in YAML 1.1
        ("'5'", "5"),
        ("15 GHz", "15 GHz"),
        ("!!str 5", "5"),
    ],
)
def test_scalars_of_the_core_schema(text: str, value: object) -> None:
    found = values_of(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'a: "x\\ud800y"',
            r"f:1: a: cannot be read: 'x\\ud800y' is not valid text: U\+D800 is half",
        ),
        ('\n"x\\ud800y": 1', r"f:2: the key 'x\\ud800y' is not valid text"),
        ("a: \udcff", "f: is not valid YAML"),
    ],
)
def test_half_a_surrogate_pair_is_not_text(text: str, problem: str) -> None:
    with pytest.raises(ScenarioError, match=problem):
        parse(text, "f")


def test_scalar_nan() -> None:
    assert math.isnan(values_of("key: .NaN")["key"])


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfslots: 5\r\ndevices: 7\r\n")
    assert read(path).values == {"slots": 5, "devices": 7}


def test_line_numbers() -> None:
    document = parse("a: 1\nb:\n  c: [1,\n    2]\n", "f")
    assert document.locate(("a",)) == "f:1"
    assert document.locate(("b", "c")) == "f:3"
    assert document.locate(("b", "c", 1)) == "f:4"
    assert document.locate(("b", "d", "e")) == "f:2"  # what is not there: the nearest above it
    assert document.locate(("z",)) == "f"


# ---------------------------------------------------------------- files


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * (yaml_source.MAX_BYTES + 1))
    for path, problem in [
        (tmp_path / "nosuch.yaml", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (tmp_path / "a\0b", "cannot be read: embedded null"),
        (tmp_path / "large.yaml", "is larger than"),
        (Path("/dev/zero"), "is larger than"),
        (Path("/dev/null"), "a scenario is a mapping"),
    ]:
        with pytest.raises(ScenarioError, match=problem):
            read(path)


def test_circular_links(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "b.yaml")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "a.yaml")
    with pytest.raises(ScenarioError, match="symbolic links"):
        read(tmp_path / "a.yaml")
    path = write(tmp_path, top="extends: a.yaml")
    with pytest.raises(ScenarioError, match="does not exist"):
        read(path)


def test_extends_chain_too_long(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"32\.yaml:1: extends: is a chain of more"):
        read(tmp_path / "0.yaml")


def test_hostile_file_is_refused_fast(tmp_path: Path) -> None:
    began = time.perf_counter()
    for text in ("[" * 500_000, "a: " + "{b: " * 100_000, "- " * 300_000, "? " * 300_000):
        with pytest.raises(ScenarioError):
            parse(text, "f")
    assert time.perf_counter() - began < 5


# ---------------------------------------------------------------- extends


def test_extends_merges_key_by_key(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        over="extends: base.yaml\nradio: {fading: rayleigh}\nslots: 2\n",
        base="slots: 1\nradio: {fading: none, bandwidth: 5 MHz}\ndevices: 3\n",
    )
    assert read(path).values == {
        "slots": 2,
        "radio": {"fading": "rayleigh", "bandwidth": "5 MHz"},
        "devices": 3,
    }
    assert read(path).locate(("radio", "bandwidth")) == f"{tmp_path / 'base.yaml'}:2"
    assert read(path).locate(("radio", "fading")) == f"{path}:2"
    assert read(path).locate(("slots",)) == f"{path}:3"


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ("a: [1, 2]", "a: [3]", {"a": [3]}),  # lists are replaced
        ("a: {b: 1}", "a: 5", {"a": 5}),
        ("a: 5", "a: {b: 1}", {"a": {"b": 1}}),
        ("a: {b: 1}", "a:", {"a": None}),
        (  # another kind replaces the mapping as a whole
            "arrivals: {process: slotted, rate: 60}",
            "arrivals: {process: mmpp, rates: [1, 2]}",
            {"arrivals": {"process": "mmpp", "rates": [1, 2]}},
        ),
        (  # the same kind does not
            "arrivals: {process: slotted, rate: 60}",
            "arrivals: {process: slotted}",
            {"arrivals": {"process": "slotted", "rate": 60}},
        ),
        ("c: {repeat: [1]}", "c: {uniform: [1, 2]}", {"c": {"uniform": [1, 2]}}),
        ("c: {uniform: [1, 2], redraw: run}", "c: {redraw: slot}",
         {"c": {"uniform": [1, 2], "redraw": "slot"}}),
        ("wired: {topology: tree, branching: 3}", "wired: {topology: ring}",
         {"wired": {"topology": "ring"}}),
    ],
)  # fmt: skip
def test_extends_merges_or_replaces(
    tmp_path: Path, base: str, over: str, merged: dict[str, Any]
) -> None:
    assert read(write(tmp_path, over=f"extends: base.yaml\n{over}", base=base)).values == merged


def test_extends_missing_key_names_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        over="extends: base.yaml\narrivals: {process: poisson}\n",
        base="arrivals:\n  process: slotted\n  rate: 60\n",
    )
    with pytest.raises(ScenarioError, match=r"over.yaml:2: arrivals.rate: is missing"):
        load(path)


def test_paths_are_relative_to_the_naming_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.yaml").write_text(
        "arrivals: {process: trace, file: tasks.h5}\ndnn: {model: own.json}\n", encoding="utf-8"
    )
    found = read(write(tmp_path, over="extends: sub/base.yaml")).values
    assert found["arrivals"]["file"] == str(tmp_path / "sub" / "tasks.h5")
    assert found["dnn"]["model"] == str(tmp_path / "sub" / "own.json")


# ---------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("assignment", "merged"),
    [
        ("slots=7", {"slots": 7}),
        (" slots =7", {"slots": 7}),
        ("slots=", {"slots": None}),
        ("name=a=b", {"name": "a=b"}),
        ("radio.fading=rayleigh", {"radio": {"fading": "rayleigh"}}),
        ("rate={uniform: [1, 2]}", {"rate": {"uniform": [1, 2]}}),
        ("list.1=x", {"list": [1, "x", {"a": 3}]}),
        ("list.2.a=x", {"list": [1, 2, {"a": "x"}]}),
        ("capacity.uniform=[1, 2]", {"capacity": {"uniform": [1, 2]}}),  # in place of repeat
        ("slots.a.b=1", {"slots": {"a": {"b": 1}}}),  # a longer form replaces the short one
    ],
)
def test_set(assignment: str, merged: dict[str, Any]) -> None:
    document = parse("slots: 1\nlist: [1, 2, {a: 3}]\ncapacity: {repeat: [5]}\n", "f")
    before = dict(document.values)
    assign(document, assignment)
    assert document.values == before | merged


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("slots", "not of the form KEY.PATH=VALUE"),
        ("=5", "not of the form"),
        ("a..b=5", "not of the form"),
        (".a=5", "not of the form"),
        ("list.3=x", r"list: has no '3' \(allowed: 0 to 2\)"),
        ("list.-1=x", "list: has no '-1'"),
        ("list.²=x", "list: has no '²'"),
        ("list.x=1", "list: has no 'x'"),
        ("list." + "9" * 5000 + "=1", "list: has no"),
        ("list.0.a=1", r"list.0: has no 'a' \(allowed: nothing below it\)"),
        ("a\udcff=1", "is not valid text: U\\+DCFF"),  # the byte 0xff on a command line
        ("a=\udcff", "is not valid text"),
        ("slots=[1", "is not valid YAML"),
        ("slots=5\ndevices: 6", "is not valid YAML"),
        ("slots=!!python/name:os.system", "not allowed"),
        ("slots=*a", "not valid YAML|aliases"),
        ("slots=" + "[" * 5000, "nested deeper"),
        ("slots={a: 1, a: 2}", "given twice"),
    ],
)
def test_set_invalid(assignment: str, problem: str) -> None:
    document = parse("slots: 1\nlist: [1, 2, {a: 3}]\n", "f")
    with pytest.raises(ScenarioError, match=problem) as caught:
        assign(document, assignment)
    message = str(caught.value)
    assert message.startswith("--set ")
    assert len(message.splitlines()) == 1
    assert len(message) < 6000


def test_set_fault_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, f="slots: 5\n")
    with pytest.raises(ScenarioError) as caught:
        load(path, ["devices=3", "slots=-5"])
    assert str(caught.value).startswith("--set slots=-5: slots: -5 should be")


def test_set_later_wins(tmp_path: Path) -> None:
    path = write(tmp_path, f="slots: 5\n")
    assert load(path, ["slots=6", "slots=7"]).slots == 7


# ---------------------------------------------------------------- whatever comes in

WORDS = [
    *Scenario.model_fields, "capacity", "uniform", "repeat", "process", "rate", "rates", "poisson",
    "mmpp", "trace", "file", "distribution", "low", "high", "links", "from", "to", "topology",
    "explicit", "model", "cut", "blocks", "flops", "positions", "battery", "extends", "x",
]  # fmt: skip
TOKENS = [*WORDS, *"[]{}:,-?&*!|>'\"%@`# \n\t", ": ", "- ", "\n  ", "!!int ", "!!bool ", "!!set ",
          "!!float ", "<<: ", "010", "1e5", ".nan", "~", "\0", "\x85", "--- ", "..."]  # fmt: skip
fuzz = settings(
    max_examples=examples(400),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*WORDS, "1 GHz", "5 s", "1 MB/s", "22 dBm"])
)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=25,
)


@fuzz
@given(st.text(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=20).map("".join))
def test_any_text(text: str) -> None:
    with contextlib.suppress(ScenarioError):
        validate(parse(text, "f"))


@fuzz
@given(st.dictionaries(st.sampled_from(WORDS), nested, max_size=5))
def test_any_data(values: dict[str, Any]) -> None:
    try:
        validate(Document(values, {(): "f"}))
    except ScenarioError as error:
        lines = str(error).splitlines()
    else:
        lines = []
    assert len(lines) <= 11
    assert all(line.startswith(("f: ", "...")) for line in lines)


@fuzz
@given(st.text(max_size=30), st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
def test_any_assignment(key: str, value: str) -> None:
    document = parse("slots: 1\nlist: [1, 2, {a: 3}]\n", "f")
    with contextlib.suppress(ScenarioError):
        assign(document, f"{key}={value}")


@fuzz
@given(st.text(max_size=60) | st.lists(st.sampled_from(TOKENS), max_size=20).map("".join))
def test_any_json(text: str) -> None:
    with contextlib.suppress(ScenarioError):
        from_json(text, "f")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "NaN", '{"a": 1}']
)
def test_hostile_json(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"^f: "):
        from_json(text, "f")
