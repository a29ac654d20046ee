"""Frames as workers and settle write them, and what a client makes of the events that it gets."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from contracts.frames import Frame, FrameKind
from contracts.outcomes import Outcome
from ingress.frame import RawFrame

CREATED = 1_700_000_000
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def raw(frame: Frame, value: bytes) -> RawFrame:
    return RawFrame(dict(frame.to_headers()), value)


def chat_chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": "small"}
    return orjson.dumps({**head, "choices": [choice]})


def text_chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": "small"}
    return orjson.dumps({**head, "choices": [choice]})


def chat_answer(text: str | None, tool_calls: list[dict[str, Any]] | None = None, finish: str = "stop") -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool_calls:
        message["tool_calls"] = tool_calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": CREATED, "model": "small"}
    return orjson.dumps({**head, "choices": [choice], "usage": USAGE})


def text_answer(text: str, finish: str = "stop") -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": "small"}
    return orjson.dumps({**head, "choices": [choice], "usage": USAGE})


def chat_run(run: str, parts: list[str], finish: str | None = "stop") -> list[RawFrame]:
    """A worker's deltas: the role, the text in parts, the finish reason (None: it never got so far)."""
    chunks = [(chat_chunk({"role": "assistant", "content": ""}), 0)]
    chunks += [(chat_chunk({"content": part}), len(part)) for part in parts]
    if finish:
        chunks.append((chat_chunk({}, finish), 0))
    return number(run, chunks)


def text_run(run: str, parts: list[str], finish: str | None = "stop") -> list[RawFrame]:
    chunks = [(text_chunk(part), len(part)) for part in parts]
    if finish:
        chunks.append((text_chunk("", finish), 0))
    return number(run, chunks)


def number(run: str, chunks: list[tuple[bytes, int]]) -> list[RawFrame]:
    """Each chunk with how many characters it adds."""
    position, frames = 0, []
    for sequence, (chunk, added) in enumerate(chunks, 1):
        position += added
        frames.append(raw(Frame(kind=FrameKind.DELTA, run=run, sequence=sequence, position=position), chunk))
    return frames


def final_of(run: list[RawFrame], value: bytes) -> RawFrame:
    """What settle writes when that run's outcome is the one that counts."""
    last = run[-1].headers
    frame = Frame(
        kind=FrameKind.FINAL,
        run=last["run"].decode(),
        sequence=len(run),
        position=int(last["position"]),
        outcome=Outcome.SUCCEEDED,
        model="small",
    )
    return raw(frame, value)


@dataclass
class Heard:
    """What a client has understood of a stream."""

    text: str = ""
    roles: list[str] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    tools: dict[int, dict[str, str]] = field(default_factory=dict)
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    chunks: int = 0
    ids: list[str] = field(default_factory=list)


def hear(events: bytes) -> Heard:
    """As the OpenAI SDKs read it; an event is one line of data, and one of id."""
    heard = Heard()
    for event in events.decode().split("\n\n")[:-1]:
        assert not heard.done, "nothing comes after the end"
        assert not heard.error, "nothing comes after an error"
        lines = [line.split(": ", 1) for line in event.split("\n") if line != ":"]
        fields = dict(lines)
        assert len(lines) == len(fields), "each field once"
        data = fields.pop("data")
        if "id" in fields:
            heard.ids.append(fields.pop("id"))
        assert not fields
        if data == "[DONE]":
            heard.done = True
        else:
            _hear_chunk(heard, orjson.loads(data))
    return heard


def _hear_chunk(heard: Heard, chunk: dict[str, Any]) -> None:
    if "error" in chunk:
        heard.error = chunk["error"]
        return
    heard.chunks += 1
    heard.usage = chunk.get("usage") or heard.usage
    for choice in chunk["choices"]:
        delta = choice.get("delta", choice)
        heard.text += delta.get("content") or delta.get("text") or ""
        heard.roles += [delta["role"]] if "role" in delta else []
        heard.finish_reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
        for call in delta.get("tool_calls") or ():
            known = heard.tools.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            known["id"] += call.get("id", "")
            known["name"] += call["function"].get("name", "")
            known["arguments"] += call["function"].get("arguments", "")
