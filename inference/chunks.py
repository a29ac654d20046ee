"""OpenAI's response bytes: chunks of a stream, rendered cheaply, and the whole response.

Everything here follows from the request's key, the time of its acceptance and the text, so that a second run with the
same text gives the same bytes. Source: OpenAI API reference, "The chat completion chunk object", 2026.
"""

from typing import Any

import orjson

from contracts.envelope import Operation
from inference.answer import Answer

_IDS: dict[Operation, str] = {"chat": "chatcmpl-", "text_completion": "cmpl-"}
_OBJECTS: dict[Operation, str] = {"chat": "chat.completion", "text_completion": "text_completion"}


class Chunks:
    """Renders one request's answer. `created` is in seconds."""

    def __init__(self, operation: Operation, idempotency_key: str, created: int, model: str, fingerprint: str) -> None:
        self._chat = operation == "chat"
        self._frame: dict[str, Any] = {
            "id": _IDS[operation] + idempotency_key,
            "object": _OBJECTS[operation],
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        self._head = b""

    def chunk(
        self,
        text: str,
        *,
        first: bool,
        finish: str | None = None,
        extra: dict[str, Any] | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        """One chunk. The first names the role, the last has `finish`; only the text is serialised anew."""
        head = self._head or self._render_head()
        tail = b',"logprobs":%b,"finish_reason":%b}]}' % (orjson.dumps(logprobs), orjson.dumps(finish))
        if not self._chat:
            return b'%b"text":%b%b' % (head, orjson.dumps(text), tail)
        role = b'"role":"assistant",' if first else b""
        fields = orjson.dumps({"content": text, **(extra or {})} if text or not extra else extra)[1:-1]
        return b'%b"delta":{%b%b}%b' % (head, role, fields, tail)

    def response(self, answer: Answer) -> bytes:
        """The whole response. The answer has finished."""
        finish = answer.finish
        assert finish is not None
        choice: dict[str, Any] = {"index": 0}
        if self._chat:
            content = answer.text if answer.text or not answer.extra else None
            choice["message"] = {"role": "assistant", "content": content} | answer.extra
        else:
            choice["text"] = answer.text
        choice |= {"logprobs": answer.logprobs, "finish_reason": finish.reason}
        usage = {
            "prompt_tokens": finish.prompt_tokens,
            "completion_tokens": finish.completion_tokens,
            "total_tokens": finish.prompt_tokens + finish.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": finish.cached_tokens},
        }
        return orjson.dumps(self._frame | {"choices": [choice], "usage": usage})

    def _render_head(self) -> bytes:
        frame = self._frame | {"object": "chat.completion.chunk"} if self._chat else self._frame
        self._head = orjson.dumps(frame)[:-1] + b',"choices":[{"index":0,'
        return self._head
