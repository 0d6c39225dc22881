"""The options --json, --quiet and --debug, which all commands share."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mecsim.cli import app
from mecsim.cli.output import Output
from mecsim.errors import InputError
from tests.helpers.cli import mecsim

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_output_options(name: str) -> None:
    found = [option for each in COMMANDS[name].params for option in each.opts]
    assert found[-3:] == ["--json", "--quiet", "--debug"]


@pytest.mark.parametrize("debug", [False, True])
def test_debug_prints_the_traceback(debug: bool) -> None:
    arguments = ["check", "nowhere.yaml", *(["--debug"] if debug else [])]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, InputError)
    assert ("Traceback" in done.stderr) == debug


@pytest.mark.parametrize(
    ("output", "printed"),
    [
        (Output(json=True, quiet=False), '{\n  "a": 1\n}\n'),
        (Output(json=True, quiet=True), '{\n  "a": 1\n}\n'),
        (Output(json=False, quiet=True), ""),
        (Output(json=False, quiet=False), "a table\n"),
    ],
)
def test_report(output: Output, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.report({"a": 1}, lambda: ["a table"])
    assert capsys.readouterr().out == printed


def test_help_paragraphs_are_not_broken_by_the_source(tmp_path: Path) -> None:
    assert "\n" not in (COMMANDS["compare"].help or "").replace("\n\n", "")


def test_ctrl_c_has_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mecsim.trace.export.export", pressed)
    assert mecsim("export", "t.h5", code=130, cwd=tmp_path) == ("", "mecsim: stopped\n")
