"""What was asked, and what the client that asked was told."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from contracts.envelope import OnDisconnect


class Door(StrEnum):
    WHOLE = "whole"  # HTTP, one JSON answer
    STREAMED = "streamed"  # HTTP, server-sent events
    KAFKA = "kafka"  # a record on `requests`, frames on `responses`
    RESUMED = "resumed"  # HTTP, server-sent events, gone on with by Last-Event-ID after each cut
    SOCKET = "socket"  # WebSocket, gone on with likewise


GOING_ON = (Door.RESUMED, Door.SOCKET)


@dataclass(frozen=True)
class Ask:
    """One call of one client. Two clients may ask the same."""

    key: str  # tenant:idempotency_key
    door: Door
    body: dict[str, Any]
    cuts: int = 0  # how often it cuts its own stream, to go on with it elsewhere
    on_disconnect: OnDisconnect = "detach"  # clients that try again may be away for long
    leaves_after: float | None = None  # seconds until it hangs up; it comes back later for the answer
    limited: bool = False  # a limit's refusal is its answer, too
    timed: bool = True  # it waits for an ordinary, short answer: if that takes long, something held it up

    @property
    def content(self) -> bytes:
        return orjson.dumps(self.streamed_body if self.door in (Door.STREAMED, Door.RESUMED) else self.body)

    @property
    def streamed_body(self) -> dict[str, Any]:
        return self.body | {"stream": True, "stream_options": {"include_usage": True}}


class Said(NamedTuple):
    """An answer as far as every door can tell it."""

    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, answer: dict[str, Any]) -> "Said":
        choice, usage = answer["choices"][0], answer["usage"]
        text, finish = choice["message"]["content"], choice["finish_reason"]
        return cls(text, answer["model"], finish, usage["prompt_tokens"], usage["completion_tokens"])

    @classmethod
    def of_chunks(cls, chunks: list[dict[str, Any]]) -> "Said":
        """What a client makes of a stream. Raises KeyError, IndexError or ValueError when it isn't whole."""
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        [finish] = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        usage = chunks[-1]["usage"]
        return cls(text, chunks[-1]["model"], finish, usage["prompt_tokens"], usage["completion_tokens"])


class Trouble(NamedTuple):
    """One try that brought no answer."""

    at: float  # monotonic, seconds
    what: str
    failed: bool  # a request that was taken broke; no fault of it when nobody listened, or its client's patience ended


class Deletion(NamedTuple):
    """A DELETE, sent until it was answered: 200 says cancelled, 409 that it had ended before; 0 when nobody said."""

    key: str
    status: int


@dataclass
class Told:
    """The end of a call as its client saw it; `said` is None for one who gave up, or was refused for good."""

    ask: Ask
    asked_at: float = field(default_factory=time.monotonic)  # monotonic, seconds
    said: Said | None = None
    answered_at: float | None = None  # monotonic, seconds
    over: bool = False
    troubles: list[Trouble] = field(default_factory=list)
    refused: int = 0  # HTTP status of the limit that turned it away
    left: bool = False  # it hung up before the answer's end
    cuts: int = 0  # of its own, that it went on after
    diverged: int = 0  # streams that said of themselves that they can't be gone on with
    differs: list[str] = field(default_factory=list)  # what makes its stream another than the unbroken one

    def trouble(self, what: str, *, failed: bool) -> None:
        self.troubles.append(Trouble(time.monotonic(), what[:200], failed))
