"""What was asked, and what the client that asked was told."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import orjson


class Door(StrEnum):
    WHOLE = "whole"  # HTTP, one JSON answer
    STREAMED = "streamed"  # HTTP, server-sent events
    KAFKA = "kafka"  # a record on `requests`, frames on `responses`


@dataclass(frozen=True)
class Ask:
    """One call of one client. Two clients may ask the same."""

    key: str  # tenant:idempotency_key
    door: Door
    body: dict[str, Any]
    asked_at: float  # monotonic, seconds

    @property
    def content(self) -> bytes:
        streamed: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        return orjson.dumps(self.body | (streamed if self.door is Door.STREAMED else {}))


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
        """What a client makes of a stream. Raises KeyError or IndexError when it isn't whole."""
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


@dataclass
class Told:
    """The end of a call as its client saw it; `said` is None for one who gave up, or was refused for good."""

    ask: Ask
    said: Said | None = None
    answered_at: float | None = None  # monotonic, seconds
    over: bool = False
    troubles: list[Trouble] = field(default_factory=list)

    def trouble(self, what: str, *, failed: bool) -> None:
        self.troubles.append(Trouble(time.monotonic(), what[:200], failed))
