"""Settings of a host process and of its nodes, as JSON lines from the controller."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mecsim.testbed.messages import Address, Name, Number


class StationConfig(NamedTuple):
    """A station of a node."""

    resource: Number
    kind: Literal["cpu", "link"]
    workers: Annotated[int, Field(ge=1, le=1024)]


class NodeConfig(BaseModel):
    """The settings of a node."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
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
