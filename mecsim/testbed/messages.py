"""The messages between the controller and the nodes, and between nodes.

`mecsim.testbed.frames` sends and receives them. Times whose names end in ``_at`` are readings of a
node's monotonic clock in s. Those that end in ``_s`` are seconds of the scenario.
"""

from __future__ import annotations

import enum
import math
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mecsim.testbed.shaping import MOST_BYTES

ITEM_BYTES: Final = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes of an element by type; the types of tensors that may be sent."""

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Number: TypeAlias = Annotated[int, Field(ge=0, lt=2**53)]
Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Address: TypeAlias = tuple[Annotated[str, Field(min_length=1, max_length=255)], Number]
"""Host and port."""


class Kind(enum.IntEnum):
    """The kinds of frames, with their numbers in the header."""

    HELLO = 1
    READY = 2
    START = 3
    RELEASE = 4
    MAP = 5
    ACK = 6
    RECORD = 7
    LOST = 8
    DROPPED = 9
    POLL = 10
    STATE = 11
    PING = 12
    PONG = 13
    STOP = 14
    ERROR = 15
    FILL = 16


class Message(BaseModel):
    """The meta data of a frame."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
    kind: ClassVar[Kind]

    def payload_bytes(self) -> int:
        """Return the length of the payload that belongs to the message."""
        return 0


class Hello(Message):
    """First frame of every connection: shows the token of the run."""

    kind = Kind.HELLO
    token: Name
    name: Name
    """The node that connects."""


class Ready(Message):
    """A node listens for maps."""

    kind = Kind.READY
    name: Name
    address: Address
    """Where it listens."""
    clock: Name
    """Identifies the clock: equal for all processes of one boot of a machine."""
    pid: Number
    realtime: bool = False
    """Whether its waits have real-time priority."""


class Peer(NamedTuple):
    """How to reach a node: its address and the identity of its clock."""

    address: Address
    clock: Name


class Start(Message):
    """The run begins."""

    kind = Kind.START
    origin_at: float
    """Time 0 of the scenario on the clock of the node that receives the message."""
    stretch: Annotated[float, Field(gt=0)]
    """Real seconds for one second of the scenario."""
    peers: dict[Name, Peer]
    """All nodes."""


class Hop(NamedTuple):
    """One visit to a station."""

    resource: Number
    block: Number
    """Row among the blocks of all classes."""
    service_s: Seconds
    latency_s: Seconds
    """Propagation after the service."""
    rate_bps: Seconds
    """Rate of a transfer in bits per second of the scenario; 0 for computing."""
    owner: Name
    """The node that has the station."""
    target: Name | None
    """The node that receives the transfer; none for computing."""


class Release(Message):
    """A task and its way. Goes to every node on the way; the owner of hop 0 releases the task."""

    kind = Kind.RELEASE
    task: Number
    task_class: Number
    release_s: Seconds
    drop_s: Seconds | None
    """The task is dropped if its next service has not begun by then."""
    hops: Annotated[tuple[Hop, ...], Field(min_length=1, max_length=4096)]

    @model_validator(mode="after")
    def _check_way(self) -> Release:
        """Check that hops start where the ones before them end, and that transfers have rates."""
        here = self.hops[0].owner
        for index, hop in enumerate(self.hops):
            if hop.owner != here:
                raise ValueError(f"hop {index} is owned by {hop.owner!r}. Expected: {here!r}")
            if (hop.target is None) != (hop.rate_bps == 0):
                raise ValueError(f"hop {index} needs a target and a rate, or none of both")
            here = hop.target or here
        return self


class Tensor(NamedTuple):
    """Type and shape of a tensor in a payload."""

    dtype: Literal[tuple(ITEM_BYTES)]  # type: ignore[valid-type] # the keys of the table
    shape: Annotated[tuple[Number, ...], Field(max_length=16)]

    def size(self) -> int:
        """Return its length in bytes."""
        return ITEM_BYTES[self.dtype] * math.prod(self.shape)


class Map(Message):
    """A transfer: the payload has the bytes of the tensors, in C order and little-endian."""

    kind = Kind.MAP
    task: Number
    hop: Number
    """Index of the transfer among the task's hops."""
    tensors: Annotated[tuple[Tensor, ...], Field(min_length=1, max_length=256)]

    def payload_bytes(self) -> int:
        """Return the length of all tensors in bytes."""
        return sum(tensor.size() for tensor in self.tensors)


class Fill(Message):
    """Bytes without meaning, which empty the token bucket of a link before a transfer."""

    kind = Kind.FILL
    count: Annotated[int, Field(ge=0, le=MOST_BYTES)]
    """Bytes of the payload."""

    def payload_bytes(self) -> int:
        """Return the length of the payload."""
        return self.count


class Ack(Message):
    """A transfer has been received."""

    kind = Kind.ACK
    task: Number
    hop: Number
    finish_at: float
    """When its last byte was read, on the clock of the receiver."""


class Record(Message):
    """A hop has finished. The owner of the station reports it."""

    kind = Kind.RECORD
    task: Number
    hop: Number
    joined_at: float
    """When the task arrived at the station: the end of its hop before and of the latency after it,
    or its release. On the owner's clock, like the next two."""
    start_at: float
    """Start of the service: the arrival, or the end of the service before it."""
    begun_at: float
    """When a worker of the station took the task; later than the start by the node's overhead."""
    finish_at: float
    """End of the service; of a transfer, on the target's clock."""


class Lost(Message):
    """A task was lost. The controller forwards it to the nodes on the way."""

    kind = Kind.LOST
    task: Number
    hop: Number
    """The hop that was not finished."""
    at: float
    reason: Annotated[str, Field(max_length=2000)]


class Dropped(Message):
    """A task was dropped because it was late; forwarded like `Lost`."""

    kind = Kind.DROPPED
    task: Number
    hop: Number
    """The hop whose service would have begun too late."""
    at: float


class Poll(Message):
    """Ask a node for the state of its stations."""

    kind = Kind.POLL
    number: Number


class State(Message):
    """The state of a node's stations."""

    kind = Kind.STATE
    number: Number
    """That of the poll."""
    at: float
    resources: dict[str, tuple[Seconds, Number]]
    """By number of the resource: how long a job that joined now would wait, in s of the scenario;
    jobs that wait or are in service."""


class Ping(Message):
    """Ask for the time."""

    kind = Kind.PING
    sent_at: float
    """On the clock of the controller."""


class Pong(Message):
    """Answer to a ping."""

    kind = Kind.PONG
    sent_at: float
    """That of the ping."""
    received_at: float
    """When the ping was read, on the node's clock."""


class Stop(Message):
    """End the process of the node."""

    kind = Kind.STOP


class Error(Message):
    """The sender cannot continue, or closes the connection because of what it received."""

    kind = Kind.ERROR
    message: Annotated[str, Field(max_length=2000)]


CLASSES: Final[dict[int, type[Message]]] = {each.kind: each for each in Message.__subclasses__()}
"""The class of each kind."""
TO_NODE: Final = (Start, Release, Lost, Dropped, Poll, Ping, Stop)
"""What the controller sends to a node after its hello was accepted."""
TO_CONTROLLER: Final = (Ready, Record, Lost, Dropped, State, Pong, Error)
"""What a node sends to the controller after its hello."""
