"""Commands whose output exists: files of the same kind are replaced, others are refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from mecsim.errors import InputError
from mecsim.learning.policy_file import read_header
from mecsim.study import plots
from mecsim.study.figure_format import FigureFormat
from tests.helpers.builders import chain, scenario
from tests.helpers.cli import mecsim
from tests.helpers.measured import measured_trace

RUN = ("run", "vgg16_4es", "--scheduler", "edge", "--set", "slots=1")
OF_RUN = "the trace of a simulation"
POLICIES = Path(__file__).parents[2] / "results" / "policies"


def test_the_trace_of_a_simulation_is_replaced(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "t.h5"))
    assert "exists" not in mecsim(*RUN, *out).stderr
    first = (tmp_path / "t.h5").stat().st_ino
    expected = f"mecsim: {tmp_path / 't.h5'}: exists; it is replaced when the run is complete\n"
    assert mecsim(*RUN, *out).stderr.startswith(expected)
    assert (tmp_path / "t.h5").stat().st_ino != first
    assert mecsim(*RUN, *out, "--quiet").stderr == ""


@pytest.mark.parametrize("command", ["run", "replay"])
def test_a_measured_trace_is_not_replaced_by_a_simulation(command: str, tmp_path: Path) -> None:
    out = measured_trace(tmp_path / "measured.h5", scenario(slots=2, dnn=chain([1e9], [8])))
    before = out.read_bytes()
    arguments: tuple[str, ...] = RUN
    if command == "replay":
        mecsim(*RUN, "--out", str(tmp_path / "t.h5"))
        arguments = ("replay", str(tmp_path / "t.h5"), "--scheduler", "local")
    error = mecsim(*arguments, "--out", str(out), code=2).stderr
    assert "already exists, and is the trace of a measured run, not of a simulation" in error
    assert out.read_bytes() == before


def test_a_simulation_is_not_replaced_by_a_measured_run(tmp_path: Path) -> None:
    out = tmp_path / "t.h5"
    mecsim(*RUN, "--out", str(out))
    arguments = ("testbed", "testbed", "--scheduler", "edge", "--out", str(out))
    error = mecsim(*arguments, code=2).stderr
    assert f"is {OF_RUN}, not of a measured run. Choose another --out, or delete it" in error


@pytest.mark.parametrize("content", [b"", b"mine", None])
def test_other_files_are_kept(content: bytes | None, tmp_path: Path) -> None:
    out = tmp_path / "mine.h5"
    if content is None:
        with h5py.File(out, "w") as file:
            file["mine"] = 1
    else:
        out.write_bytes(content)
    before = out.read_bytes()
    assert "mine.h5: already exists, and is no trace" in mecsim(*RUN, "--out", str(out), code=2)[1]
    assert out.read_bytes() == before


def test_policies_are_replaced_and_other_arrays_are_not(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (shipped, *_) = sorted(POLICIES.glob("vgg16_loaded-mtl-a3c*.safetensors"))
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"weights of something else")
    train = ("train", "vgg16_loaded", "--set", "slots=2", "--episodes", "1", "--serial", "--out")
    refused = mecsim(*train, str(mine), code=2).stderr
    assert "mine.safetensors: already exists, and is no policy of mecsim. Choose" in refused
    assert [each.name for each in tmp_path.iterdir()] == ["mine.safetensors"]
    mine.write_bytes(shipped.read_bytes())
    shown = mecsim(*train, str(mine)).stderr
    assert f"{mine}: exists; it is replaced when the training is complete" in shown
    assert read_header(mine).training["episodes"] == 1


def test_figures_are_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    mecsim(*RUN, "--quiet", "--out", str(tmp_path / "t.h5"))
    plot = ("plot", str(tmp_path / "t.h5"), "--kind", "cdf", "--kind", "parts")
    assert mecsim(*plot).stdout == mecsim(*plot, "--width", "page").stdout
    (tmp_path / "t-figures" / "parts.pdf").write_bytes(b"%PDF of another program")
    kept = (tmp_path / "t-figures" / "cdf_total_delay_s.png").read_bytes()
    error = mecsim(*plot, code=2).stderr
    assert "parts.pdf: already exists, and matplotlib has not drawn it. Choose" in error
    assert (tmp_path / "t-figures" / "cdf_total_delay_s.png").read_bytes() == kept


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_figures_are_recognised(ending: str, tmp_path: Path) -> None:
    form = FigureFormat((ending,))
    (tmp_path / f"mine.{ending}").write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"mine\.{ending}: already exists"):
        plots.check_replaced(tmp_path / "mine", form)
    plots.check_replaced(tmp_path / "other", form)


def test_a_calibrated_scenario_is_replaced_by_the_same_one(tmp_path: Path) -> None:
    trace = measured_trace(tmp_path / "t.h5", scenario(slots=200, dnn=chain([1e9], [8])))
    calibrate = ("calibrate", str(trace), "--out", str(tmp_path / "c.yaml"))
    mecsim(*calibrate)
    mecsim(*calibrate)
    written = (tmp_path / "c.yaml").read_text(encoding="utf-8")
    (tmp_path / "c.yaml").write_text(f"# edited\n{written}", encoding="utf-8")
    error = mecsim(*calibrate, code=2).stderr
    assert "already exists, with another content. Use --force, or choose another --out" in error
    assert (tmp_path / "c.yaml").read_text(encoding="utf-8").startswith("# edited")
    mecsim(*calibrate, "--force")
    assert (tmp_path / "c.yaml").read_text(encoding="utf-8") == written
