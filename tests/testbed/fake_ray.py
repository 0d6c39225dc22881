"""A Ray cluster in the same process: actors that answer at once, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """What Ray raises where an actor fails."""


class FakeRay:
    """Looks like the package; ``answers`` are those of all actors, by method."""

    def __init__(self, addresses: list[str], **answers: Callable[..., Any]) -> None:
        self.addresses, self.answers = addresses, answers
        self.options: list[dict[str, Any]] = []
        self.called: list[tuple[str, tuple[Any, ...]]] = []
        self.killed = 0
        self.exceptions = SimpleNamespace(RayError=RayError)

    def nodes(self) -> list[dict[str, Any]]:
        """List the machines; the last one has been removed."""
        alive = [
            {"NodeID": each, "Alive": True, "NodeManagerAddress": each} for each in self.addresses
        ]
        return [*alive, {"NodeID": "x", "Alive": False, "NodeManagerAddress": "10.0.0.99"}]

    def get_runtime_context(self) -> Any:
        """Be on the first machine."""
        return SimpleNamespace(get_node_id=lambda: self.addresses[0])

    def remote(self, kind: type) -> Any:
        """Return something that makes actors."""
        return SimpleNamespace(options=self._options)

    def _options(self, **options: Any) -> Any:
        self.options.append(options)
        return SimpleNamespace(remote=lambda: _Actor(self))

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        """Return the calls that have an answer."""
        done = [each for each in references if each is not None]
        return done, [each for each in references if each is None]

    def get(self, reference: Callable[[], Any], timeout: float | None = None) -> Any:
        """Return an answer."""
        if reference is None:
            raise RayError("timed out")
        return reference()

    def kill(self, actor: Any) -> None:
        """Count."""
        self.killed += 1


class _Actor:
    def __init__(self, ray: FakeRay) -> None:
        self._ray = ray

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._ray.called.append((method, arguments))
            answer = self._ray.answers.get(method)
            return None if answer is None else lambda: answer(*arguments)

        return SimpleNamespace(remote=call)
