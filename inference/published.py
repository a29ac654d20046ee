"""What earlier runs of a request have published, as a client has it that reads the frames in their order.

The rule is the one that docs/kafka.md gives to readers: text counts by its position, and once a run has taken over, the
frames of every other mean nothing.
"""

from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from typing import Any

import orjson

from inference.answer import Answer
from inference.engine import Finish, Prefix, Step

TAKEOVER = 0  # the sequence of a frame that says: from here on only this run's frames count
_ID_TYPE = "I"  # 32 bits each


def pack_ids(ids: Iterable[int]) -> bytes:
    """The header token-ids: text, as all headers are."""
    return b2a_base64(array(_ID_TYPE, ids).tobytes(), newline=False)


def unpack_ids(header: bytes) -> "array[int]":
    """Raises ValueError."""
    return array(_ID_TYPE, a2b_base64(header))


class Published:
    """Frames of one claim add up to the beginning of an answer, or to all of it: then `answer.finish` is set."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.unbroken = True  # each frame went on where the one before ended; else nobody can go on from here
        self._owner = b""
        self._run = b""
        self._sequence = 0
        self._token_ids: array[int] | None = array(_ID_TYPE)

    @property
    def prefix(self) -> Prefix:
        answer = self.answer
        return Prefix(answer.text, answer.tokens, None if self._token_ids is None else tuple(self._token_ids))

    def add(self, headers: dict[str, bytes], value: bytes) -> None:
        """A frame of kind `delta`."""
        run, sequence = headers["run"], int(headers["sequence"])
        if sequence == TAKEOVER:
            self._owner = run
        elif not self._owner or run == self._owner:
            self._follow(run, sequence, headers, orjson.loads(value)["choices"][0])

    def _follow(self, run: bytes, sequence: int, headers: dict[str, bytes], choice: dict[str, Any]) -> None:
        same = run == self._run
        if same and sequence <= self._sequence:
            return  # it came twice
        delta = choice.get("delta") or {"content": choice.get("text")}
        start = int(headers["position"]) - len(delta.get("content") or "")
        in_order = sequence == self._sequence + 1 if same else sequence == 1 and not self.answer.extra
        self.unbroken = self.unbroken and in_order and start == self.answer.characters
        self._run, self._sequence = run, sequence
        if self.unbroken:
            self._take(headers, delta, choice)

    def _take(self, headers: dict[str, bytes], delta: dict[str, Any], choice: dict[str, Any]) -> None:
        total = int(headers.get("completion-tokens", 0))
        tokens = total - self.answer.tokens
        reason = choice.get("finish_reason")
        step = Step(
            delta.get("content") or "",
            tokens,
            _finish(headers, reason, total) if reason else None,
            extra={name: field for name, field in delta.items() if name not in ("role", "content")} or None,
            logprobs=choice.get("logprobs"),
        )
        self.answer.add(step)
        ids = unpack_ids(headers.get("token-ids", b""))
        if self._token_ids is not None:
            self._token_ids = self._token_ids + ids if len(ids) == tokens else None


def _finish(headers: dict[str, bytes], reason: str, tokens: int) -> Finish:
    return Finish(
        reason,
        prompt_tokens=int(headers.get("prompt-tokens", 0)),
        completion_tokens=tokens,
        cached_tokens=int(headers.get("cached-tokens", 0)),
        model_version=headers.get("model-version", b"").decode(),
    )
