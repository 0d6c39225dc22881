"""Presets of training options: resolved before all else, in the library and on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mecsim import cli
from mecsim.errors import InputError, Interrupted, SchedulerError
from mecsim.learning import TrainingSettings
from mecsim.learning.options import check_workers, find_learner, resolve_settings, settings_of
from mecsim.learning.policy_file import read_policy
from tests.helpers import toy_learner
from tests.learning.test_training import SCENARIO
from tests.rl.test_learners import same
from tests.rl.test_policy_network import learn

LEARNERS = ("mtl-a3c", "a3c", "dqn")
EPISODIC = {"train_freq": "episode"}


def test_options_override_the_preset_which_overrides_the_defaults() -> None:
    found = resolve_settings("dqn", {"gamma": 0.5, "batch_size": "7"}, "paper").model_dump()
    assert (found["gamma"], found["batch_size"]) == (0.5, 7)
    assert (found["learning_rate"], found["epsilon_end"]) == (0.01, 0.01)
    assert found["hidden_units"] == 64  # neither the paper nor its preset gives it
    assert resolve_settings("dqn", {}, "tuned") == resolve_settings("dqn", {})


@pytest.mark.parametrize("name", LEARNERS)
def test_the_preset_of_the_paper_has_the_numbers_of_its_section_5(name: str) -> None:
    found = resolve_settings(name, {}, "paper").model_dump()
    rates = [value for key, value in found.items() if key.endswith("learning_rate")]
    assert set(rates) == {0.01}
    assert (found["batch_size"], found["gamma"]) == (32, 0.95)
    assert (found["epsilon_start"], found["epsilon_end"]) == (1.0, 0.01)
    assert found["observe"] == "paper"
    assert (found["train_freq"], found["work_nodes"]) == ("episode", 1)


def test_unknown_preset() -> None:
    expected = r"has no preset 'papr'; did you mean 'paper'\? allowed: tuned, paper"
    with pytest.raises(SchedulerError, match=expected):
        resolve_settings("a3c", {}, "papr")
    with pytest.raises(SchedulerError, match="has no preset 'paper'; allowed: tuned"):
        resolve_settings("tests.helpers.toy_learner:Toy", {}, "paper")


@pytest.mark.parametrize("name", LEARNERS)
def test_options_without_effect_are_refused(name: str) -> None:
    with pytest.raises(SchedulerError) as refused:
        resolve_settings(name, {"candidates": 4}, "paper")
    assert str(refused.value) == (
        f"scheduler '{name}': option candidates: has no effect with train_freq=episode of the "
        "preset 'paper'. Try: omit it, or another train_freq"
    )
    for wrong in ({"work_nodes": 2}, {"branched_share": 0.0, "branch_horizon": 9}):
        with pytest.raises(SchedulerError, match="has no effect with"):
            resolve_settings(name, wrong)
    resolve_settings(name, {"candidates": 16}, "paper")  # the default
    for preset in find_learner(name).presets:  # jobs and policies hold all options
        settings = resolve_settings(name, {}, preset)
        assert set(settings.without_effect()) > {"candidates"} or preset == "tuned"
        assert resolve_settings(name, settings.model_dump()) == settings


@pytest.mark.parametrize(
    "options",
    [
        {"sharing": "hard", "soft_sharing_weight": 0.5},
        {"buffer_size": 100},
        {"normalize_advantage": False},
        {"elite_share": 1.0, "elite_scope": "group"},
        EPISODIC | {"n_steps": 4},
        {"branched_share": 0.0, "elite_share": 0.5},
    ],
)
def test_options_of_actor_critics_without_effect(options: dict[str, Any]) -> None:
    with pytest.raises(SchedulerError, match=f"option {list(options)[-1]}: has no effect"):
        resolve_settings("mtl-a3c", options)


def test_a_wrong_value_in_a_preset_is_an_error_of_its_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toy_learner.Toy, "presets", {"odd": {"wish": "none"}})
    with pytest.raises(SchedulerError, match="option wish: 'none' should be a valid integer"):
        resolve_settings("tests.helpers.toy_learner:Toy", {}, "odd")


def test_policy_and_checkpoint_hold_all_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each option of the preset had been given."""
    monkeypatch.setattr("mecsim.learning.recorder.CHECKPOINT_SECONDS", 0.0)
    full = learn(tmp_path / "p.safetensors", preset="paper", episodes=4)["settings"]
    header = read_policy(tmp_path / "p.safetensors").header
    assert header.settings == full == resolve_settings("mtl-a3c", full).model_dump(mode="json")
    assert (full["train_freq"], full["critic_loss"]) == ("episode", "squared")
    assert header.training["preset"] == "paper"
    out = tmp_path / "q.safetensors"

    def stop(episodes: float, *_: Any) -> None:
        if episodes == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="1 of 4 episodes are saved"):
        learn(out, preset="paper", episodes=4, progress=stop)
    with pytest.raises(InputError, match="train_freq was episode, is step"):
        learn(out, episodes=4, resume=True)
    learn(out, options=full, episodes=4, resume=True)
    assert same(out, tmp_path / "p.safetensors")


def test_training_in_one_process_has_no_workers(tmp_path: Path) -> None:
    summary = learn(tmp_path / "p.safetensors", options=EPISODIC, episodes=2, serial=False)
    assert (summary["serial"], summary["workers"]) == (True, 1)
    with pytest.raises(InputError, match=r"workers: 3; .* one process.*--option work_nodes=3"):
        learn(tmp_path / "q.safetensors", options=EPISODIC, serial=False, workers=3)
    with pytest.raises(InputError, match=r"engine: ray; .* one process.*--engine local"):
        learn(tmp_path / "q.safetensors", options=EPISODIC, serial=False, engine="ray")
    assert not list(tmp_path.glob("q.*"))


class _Own(toy_learner.Stacked):
    """Has no work nodes."""

    @classmethod
    def in_one_process(cls, settings: Any) -> bool:
        return True


def test_workers_of_a_learner_of_ones_own() -> None:
    own = f"{__name__}:_Own"
    with pytest.raises(InputError, match=r"one process\. Try: omit --workers$"):
        check_workers(own, resolve_settings(own, {}), 2)
    check_workers(own, resolve_settings(own, {}), 1)
    stacked = "tests.helpers.toy_learner:Stacked"
    check_workers(stacked, resolve_settings(stacked, {}), 2, "ray")
    plain = resolve_settings("mtl-a3c", {"branched_share": 0.0})
    assert find_learner("mtl-a3c").stack_key(plain) is not None
    check_workers("mtl-a3c", plain, 2)  # a stack if it is serial


# ---------------------------------------------------------------- the command line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mecsim", "train", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_preset_on_the_command_line(train: Any) -> None:
    given = ("s.yaml", "--episodes", "3", "--preset", "paper", "--option", "gamma=0.5")
    code, out, _ = train(*given, "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["preset"], document["serial"], document["workers"]) == ("paper", True, 1)
    header = read_policy(Path(document["policy"])).header
    assert (header.settings["gamma"], header.settings["batch_size"]) == (0.5, 32)
    code, out, _ = train(*given, "--serial")  # says what holds anyway
    words = " ".join(out.split())
    assert code == 0
    assert "mtl-a3c (paper)" in words
    assert "serial" in words
    assert "workers" not in words
    code, out, _ = train("s.yaml", "--episodes", "3", "--serial", "--json")
    assert json.loads(out)["preset"] == "tuned"
    assert json.loads(out)["policy"] != document["policy"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--preset", "papers"), "has no preset 'papers'; did you mean 'paper'"),
        (("--preset", "paper", "--workers", "4"), "--option work_nodes=4 without --workers"),
        (("--option", "train_freq=episode", "--workers", "4"), "--option work_nodes=4"),
        (("--preset", "paper", "--engine", "ray"), "Try: --engine local"),
        (("--preset", "paper", "--workers", "0"), "workers: 0; allowed: 1 to 16"),
    ],
)
def test_input_that_is_wrong(
    arguments: tuple[str, ...], problem: str, train: Any, here: Path
) -> None:
    code, out, err = train("s.yaml", "--quiet", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert problem in err
    assert [path.name for path in here.iterdir()] == ["s.yaml"]


@pytest.mark.parametrize("name", LEARNERS)
def test_settings_are_listed_with_the_values_of_a_preset(name: str, train: Any) -> None:
    code, out, _ = train("--scheduler", name, "--settings", "--preset", "paper", "--json")
    listed = {each["name"]: each["default"] for each in json.loads(out)["settings"]}
    assert code == 0
    assert listed == {each["name"]: each["default"] for each in settings_of(name, "paper")}
    usual = {each["name"]: each["default"] for each in settings_of(name)}
    changed = {key: value for key, value in listed.items() if value != usual[key]}
    presets = find_learner(name).presets["paper"]
    assert changed == {key: str(presets[key]) for key in changed}
    assert {"observe", "batch_size"} <= changed.keys()


def test_settings_of_a_learner_without_presets() -> None:
    rows = settings_of("tests.helpers.toy_learner:Toy")
    assert {row["name"] for row in rows} == {*TrainingSettings.model_fields, "wish"}
