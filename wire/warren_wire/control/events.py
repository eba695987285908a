"""What a session reports. Consume with `match`."""

from dataclasses import dataclass

from warren_wire.keys import ChallengePublic

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Connected:
    """The client may send requests now."""

    challenge: ChallengePublic | None


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """The head of a request. Route on `path` alone: stock clients put anything into `authority`."""

    stream_id: int
    method: str
    path: str
    authority: str
    headers: Headers


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    stream_id: int
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class DataReceived:
    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The request or the response is complete."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The other side gave the stream up. Stock clients end a map poll so and keep the connection."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The answer to `ping`."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The other side ended the connection; nothing more comes and nothing more can be sent."""

    reason: str


SessionEvent = (
    Connected
    | RequestStarted
    | ResponseStarted
    | DataReceived
    | StreamEnded
    | StreamReset
    | PongReceived
    | Disconnected
)
