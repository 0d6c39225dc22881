"""Settings of a host process and of its nodes, as JSON lines from the controller."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mecsim.testbed.messages import Address, Name, Number

ENVIRONMENT: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""Environment of a host process: no library may start threads, because it forks."""


class Settings(BaseModel):
    """Settings that are read from a line."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class SourceConfig(Settings):
    """Where the module of a task class is from; the fields of `mecsim.dnn.modules.ModuleSource`."""

    factory: str
    input_shape: tuple[int, ...]
    raw_type: str
    input_type: str | None


class ClassConfig(Settings):
    """The blocks of a task class."""

    source: SourceConfig
    cuts: tuple[str, ...]
    """The layers after which the module is cut."""


class HostConfig(Settings):
    """First line that a host reads."""

    classes: Annotated[tuple[ClassConfig, ...], Field(min_length=1)]
    measure: bool = True
    """Whether to measure how long each block takes."""


class StationConfig(NamedTuple):
    """A station of a node."""

    resource: Number
    kind: Literal["cpu", "link"]
    workers: Annotated[int, Field(ge=1, le=1024)]


class NodeConfig(Settings):
    """The settings of a node, a line of each."""

    name: Name
    control: dict[Literal["unix", "tcp"], str | Address] = Field(min_length=1, max_length=1)
    """Where the controller listens: ``{"unix": path}`` or ``{"tcp": [host, port]}``."""
    token: Name
    bind: Address
    """Host and port for maps; port 0 takes a free one."""
    nodes: Literal["natural", "padded"]
    links: Literal["pacing", "tbf"]
    stations: tuple[StationConfig, ...]
    netns: bool = False
    """Whether the node gets a network namespace."""
