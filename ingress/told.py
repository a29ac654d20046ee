"""What a client was told by the chunks so far, and what is left to tell once the final answer is known.

The slow path of a stream, taken after a crash, a loss or a replay: here chunks are parsed, nowhere else.
"""

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import orjson


class Diverged(Exception):  # noqa: N818 - what it says is a fact about two texts
    """What was sent isn't how the final answer begins."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How an operation writes its chunks."""

    object: str
    text_field: str

    def delta(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A streamed choice's new fields; a text completion has only `text`."""
        if self is TEXT:
            return {"text": choice.get("text")}
        return choice.get("delta") or {}

    def message(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A final choice's fields."""
        return self.delta(choice) if self is TEXT else choice["message"]

    def choice(self, delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        fields = {"text": delta.get("text", "")} if self is TEXT else {"delta": delta}
        return {"index": 0, **fields, "logprobs": logprobs, "finish_reason": finish_reason}

    def chunk(self, like: dict[str, Any], **fields: Any) -> bytes:
        """A chunk of the same answer as `like`, which is a chunk or the final answer."""
        kept = {name: like[name] for name in ("id", "created", "model", "system_fingerprint") if name in like}
        return orjson.dumps({**kept, "object": self.object, **fields})


CHAT = Shape("chat.completion.chunk", "content")
TEXT = Shape("text_completion", "text")


def shape_of(answer: dict[str, Any]) -> Shape:
    """Of a chunk or of a whole answer."""
    return TEXT if answer.get("object") == TEXT.object else CHAT


def begins(chunk: bytes, position: int) -> bool:
    """Whether a chunk's text, which ends at `position`, is the answer's first: a run that took over goes on within."""
    if position == 0:
        return True
    parsed = orjson.loads(chunk)
    shape = shape_of(parsed)
    return position == sum(len(shape.delta(choice).get(shape.text_field) or "") for choice in parsed["choices"])


class Told:
    """Sums up chunks; every string field of a delta is a part, to be joined."""

    def __init__(self) -> None:
        self.text = ""
        self.checksum = 0  # the text's CRC-32
        self._fields: dict[str, Any] = {}
        self._tools: dict[int, dict[str, Any]] = {}
        self._finish_reason: str | None = None

    def add(self, chunk: bytes) -> None:
        parsed = orjson.loads(chunk)
        shape = shape_of(parsed)
        for choice in parsed.get("choices", ()):
            delta = shape.delta(choice)
            for call in delta.get("tool_calls") or ():
                _join(self._tools.setdefault(call["index"], {}), call)
            _join(self._fields, {name: value for name, value in delta.items() if name != "tool_calls"})
            self.checksum = crc32((delta.get(shape.text_field) or "").encode(), self.checksum)
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        self.text = self._fields.get(shape.text_field) or ""

    def recall(self, final: dict[str, Any], position: int, *, finished: bool) -> None:
        """What a client had of this very answer, by its position alone. Raises Diverged when that doesn't tell."""
        shape, choice = shape_of(final), final["choices"][0]
        message = shape.message(choice)
        text = message.get(shape.text_field) or ""
        if len(text) < position or any(message[name] for name in message.keys() - {"role", shape.text_field}):
            raise Diverged
        self.text = text[:position]
        self.checksum = crc32(self.text.encode())
        self._fields = self._opening(shape) | {shape.text_field: self.text}
        self._finish_reason = choice.get("finish_reason") if finished else None

    def unsaid(self, chunk: bytes, position: int, upto: int | None = None) -> bytes:
        """The part of a chunk, whose text ends at `position`, that goes on exactly where the client stands, at the
        most up to `upto`; or nothing.

        Fields that have no position (tool calls, the finish reason) wait for the final answer. Raises Diverged when
        the chunk says another text where the client has one.
        """
        parsed = orjson.loads(chunk)
        shape = shape_of(parsed)
        deltas = [shape.delta(choice) for choice in parsed.get("choices", ())]
        text = "".join(delta.get(shape.text_field) or "" for delta in deltas)
        start, known = position - len(text), self.text
        stop = position if upto is None else min(position, upto)
        if start > len(known):
            return b""
        if not text.startswith(known[start:position]):
            raise Diverged
        if stop <= len(known):
            return b""
        delta = self._opening(shape) | {shape.text_field: text[len(known) - start : stop - start]}
        return shape.chunk(parsed, choices=[shape.choice(delta)])

    def rest(self, final: dict[str, Any]) -> bytes:
        """One chunk with all of the final answer that wasn't told; nothing when all was. Raises Diverged."""
        shape, choice = shape_of(final), final["choices"][0]
        message = shape.message(choice)
        delta = _rest(self._fields, {name: value for name, value in message.items() if name != "tool_calls"})
        if calls := self._untold_calls(message.get("tool_calls") or []):
            delta["tool_calls"] = calls
        finish_reason = choice.get("finish_reason")
        if self._finish_reason and (delta or self._finish_reason != finish_reason):
            raise Diverged
        if len(self.text) > len(message.get(shape.text_field) or ""):
            raise Diverged
        if self._finish_reason:
            return b""
        logprobs = None if self._fields else choice.get("logprobs")  # they can't be cut where a text is
        return shape.chunk(final, choices=[shape.choice(delta, finish_reason, logprobs)])

    def _opening(self, shape: Shape) -> dict[str, Any]:
        return {"role": "assistant"} if shape is CHAT and "role" not in self._fields else {}

    def _untold_calls(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(self._tools) > len(calls):
            raise Diverged
        rests = [_rest(self._tools.get(index, {}), {"index": index, **call}) for index, call in enumerate(calls)]
        return [{"index": index, **rest} for index, rest in enumerate(rests) if rest]


_WHOLE = ("role", "id", "type", "name", "index")  # never sent in parts


def _join(known: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            _join(known.setdefault(name, {}), value)
        elif isinstance(value, str) and name not in _WHOLE:
            known[name] = (known.get(name) or "") + value
        elif value is not None:
            known[name] = value


def _rest(known: dict[str, Any], final: dict[str, Any]) -> dict[str, Any]:
    """The fields, or ends of strings, that `final` has beyond `known`. Raises Diverged."""
    rest: dict[str, Any] = {}
    for name, value in final.items():
        told = known.get(name)
        if isinstance(value, dict):
            untold: Any = _rest(told or {}, value)
        elif isinstance(value, str) and isinstance(told, str) and name not in _WHOLE:
            if not value.startswith(told):
                raise Diverged
            untold = value[len(told) :]
        elif told is not None and value != told:
            raise Diverged
        else:
            untold = value if told is None else None
        if untold not in (None, "", [], {}):
            rest[name] = untold
    return rest
