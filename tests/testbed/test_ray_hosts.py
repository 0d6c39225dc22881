"""Hosts on several machines: pinned actors, what they answer, and one message for each problem."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from mecsim.dnn.modules import ModuleSource
from mecsim.errors import InputError, NodeFailedError
from mecsim.testbed import ray_hosts
from mecsim.testbed.host_process import BlocksOfClass
from mecsim.testbed.ray_hosts import HostActor, RayHosts
from mecsim.testbed.settings import NodeConfig
from tests.helpers.cli import mecsim
from tests.testbed.fake_ray import FakeRay, RayError

HERE = {"mecsim": version("mecsim"), "torch": True}
NAMES = ["es1", "es2", "device0"]
ADDRESSES = {"es1": "10.0.0.2", "es2": "10.0.0.2", "device0": "10.0.0.3"}
CLASSES = [BlocksOfClass(ModuleSource("vgg16", (3, 32, 32), "uint8", None), ("conv1",))]
CONFIG = NodeConfig(
    name="es2",
    control={"tcp": ("10.0.0.1", 9000)},
    token="secret",
    bind=("10.0.0.2", 0),
    nodes="padded",
    links="pacing",
    stations=(),
)


def cluster(**answers: Any) -> FakeRay:
    known = {"describe": lambda: HERE, "close": lambda: None}
    return FakeRay(["10.0.0.1", "10.0.0.2", "10.0.0.3"], **(known | answers))


def fails(message: str) -> Any:
    def fail(*_: Any) -> Any:
        raise RayError(message)

    return fail


def test_one_actor_is_pinned_to_each_address() -> None:
    ray = cluster()
    hosts = RayHosts(ray, ADDRESSES, NAMES)
    assert [each["resources"] for each in ray.options] == [
        {"node:10.0.0.2": 0.001},
        {"node:10.0.0.3": 0.001},
    ]
    assert hosts.address == "10.0.0.1"
    assert hosts.names_at("10.0.0.2") == ["es1", "es2"]
    assert hosts.names_at("10.0.0.3") == ["device0"]
    assert hosts.names_at("10.0.0.1") == []
    hosts.close()
    assert ray.killed == 2


def test_settings_are_passed_on_as_json() -> None:
    built = ([[1.0, 2.0]], {"cores": 4})
    ray = cluster(build=lambda _: ("done", built), fork=lambda _: ("done", None))
    hosts = RayHosts(ray, ADDRESSES, NAMES)
    assert hosts.build(CLASSES) == {"10.0.0.2": built, "10.0.0.3": built}
    hosts.fork(CONFIG)
    sent = [arguments[0] for method, arguments in ray.called if method in ("build", "fork")]
    assert json.loads(sent[0]) == json.loads(sent[1])
    assert json.loads(sent[0])[0]["source"]["factory"] == "vgg16"
    assert NodeConfig.model_validate_json(sent[2]) == CONFIG


@pytest.mark.parametrize(
    ("answer", "kind", "problem"),
    [
        (lambda _: ("refused", "no blocks"), InputError, "host 10.0.0.2: no blocks"),
        (lambda _: ("failed", "has ended"), NodeFailedError, "host 10.0.0.2: has ended"),
        (fails("first\ndied"), NodeFailedError, "host 10.0.0.2: has ended: died"),
    ],
)
def test_what_a_host_reports_is_raised(answer: Any, kind: type[Exception], problem: str) -> None:
    hosts = RayHosts(cluster(build=answer), ADDRESSES, NAMES)
    with pytest.raises(kind, match=problem):
        hosts.build(CLASSES)


def test_the_reason_of_an_end() -> None:
    hosts = RayHosts(cluster(reason=lambda name: f"{name} was killed"), ADDRESSES, NAMES)
    assert hosts.reason("es1") == "es1 was killed"
    gone = RayHosts(cluster(reason=fails("actor died")), ADDRESSES, NAMES)
    assert gone.reason("es1") == "its host at 10.0.0.2 has ended or does not answer"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda: HERE | {"mecsim": "0.0.1"}, r"has mecsim 0\.0\.1\. Expected: "),
        (lambda: HERE | {"torch": False}, r"has no PyTorch\. Try there: pip install"),
        (fails("a\nNo module named 'mecsim'"), "cannot start a host: No module named 'mecsim'"),
        (None, "Ray has started no host there"),
    ],
)
def test_machines_that_cannot_have_nodes(
    answer: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "START_S", 0.0)
    ray = cluster(describe=answer)
    with pytest.raises(InputError, match=rf"testbed\.hosts: 10\.0\.0\.2: {problem}"):
        RayHosts(ray, ADDRESSES, NAMES)
    assert ray.killed == 2


@pytest.mark.parametrize("address", ["10.0.0.4", "10.0.0.99"])
def test_an_address_that_is_no_node(address: str) -> None:
    ray = cluster()
    with pytest.raises(InputError, match=r"no node of the Ray cluster\. Its nodes: 10\.0\.0\.1, "):
        RayHosts(ray, ADDRESSES | {"es1": address}, NAMES)
    assert ray.options == []


def test_an_actor_without_a_host() -> None:
    actor = HostActor()
    assert actor.describe() == HERE
    assert actor.fork(CONFIG.model_dump_json()) == ("failed", "the host was not started")
    assert actor.reason("es1") == ""
    actor.close()


# ---------------------------------------------------------------- the command

SCENARIO: dict[str, Any] = {
    "slots": 2,
    "dnn": {"model": "alexnet", "blocks": 2},
    "arrivals": {"process": "deterministic", "rate": 2},
    "edge_servers": 1,
    "devices": 1,
    "radio": {"rate": "20 Mbit/s"},
}
HOSTS = "testbed.hosts={es1: 127.0.0.1}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--engine", "cloud"), "expected one of local, ray"),
        (("--ray-address", "127.0.0.1:1"), "only valid with --engine ray"),
        (("--engine", "ray"), "the scenario gives no machine"),
        (("--engine", "ray", "--set", HOSTS), "needs a running cluster"),
        (("--engine", "ray", "--set", HOSTS, "--links", "tbf"), "within one machine"),
        (
            ("--engine", "ray", "--set", HOSTS, "--ray-address", "127.0.0.1:1"),
            "no Ray cluster answers",
        ),
    ],
)
def test_commands_that_are_refused(
    arguments: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    file, out = tmp_path / "small.yaml", tmp_path / "trace.h5"
    file.write_text(yaml.safe_dump(SCENARIO), encoding="utf-8")
    command = ("testbed", str(file), "--scheduler", "greedy", "--out", str(out))
    error = mecsim(*command, *arguments, code=2).stderr
    assert problem in " ".join(error.split())
    assert list(tmp_path.iterdir()) == [file]


def test_missing_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("mecsim.study.executors.ray_executor._answering", lambda _: "127.0.0.1")
    with (
        pytest.raises(InputError, match=r"pip install 'mecsim\[ray\]'"),
        ray_hosts.ray_hosts("127.0.0.1:6379", ADDRESSES, NAMES),
    ):
        pass
