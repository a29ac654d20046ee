"""A streamed answer as server-sent events: (state, frame) → bytes to write, and no I/O.

What a client has been sent is always how the final text begins, or else its stream ends with an error event.
Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from typing import Any

import orjson

from contracts.errors import MillraceError, StreamDiverged
from ingress.frame import DELTA, ERROR, FINAL, RawFrame
from ingress.told import Diverged, Shape, Told

DONE = b"data: [DONE]\n\n"


class AnswerStream:
    """Writes one run's deltas through unparsed while they come unbroken. From the first gap, repetition or second run
    on it parses: by position in the text, it sends what goes on from what was sent, and settles up at the end."""

    def __init__(self, shape: Shape, *, include_usage: bool = False) -> None:
        self.closed = False
        self._shape = shape
        self._include_usage = include_usage
        self._sent: list[bytes] = []  # chunks; read again only when something went wrong
        self._run = b""
        self._sequence = 0
        self._told: Told | None = None  # set once frames stopped being one unbroken run
        self._strays: set[bytes] = set()  # runs that say another text than the one sent

    def feed(self, frame: RawFrame) -> bytes:
        """Server-sent events for the client; nothing for a frame that tells it nothing new."""
        if self.closed:
            return b""
        kind = frame.kind
        if kind == DELTA:
            return self._delta(frame)
        if kind == FINAL:
            return self._final(frame)
        return self._end(frame.value) if kind == ERROR else b""

    def fail(self, error: MillraceError) -> bytes:
        """An error event; the stream is closed."""
        return self._end(error.body())

    def _delta(self, frame: RawFrame) -> bytes:
        headers, chunk = frame
        run, sequence = headers["run"], int(headers["sequence"])
        if sequence == 1 and not self._sent:
            self._run, self._sequence, self._told = run, 0, None
        if run == self._run and self._told is None:
            if sequence == self._sequence + 1:
                self._sequence = sequence
                self._sent.append(chunk)
                return b"data: " + chunk + b"\n\n"
            if sequence <= self._sequence:
                return b""
        return b"" if run in self._strays else self._go_on(run, chunk, int(headers["position"]))

    def _go_on(self, run: bytes, chunk: bytes, position: int) -> bytes:
        told = self._told = self._told or self._look_back()
        try:
            unsaid = told.unsaid(chunk, position)
        except Diverged:
            self._strays.add(run)
            return b""
        if unsaid:
            told.add(unsaid)
            self._sent.append(unsaid)
        return _event(unsaid)

    def _look_back(self) -> Told:
        told = Told(self._shape)
        for chunk in self._sent:
            told.add(chunk)
        return told

    def _final(self, frame: RawFrame) -> bytes:
        self.closed = True
        complete = self._is_complete(frame)
        if complete and not self._include_usage:
            return DONE
        final = orjson.loads(frame.value)
        try:
            rest = b"" if complete else (self._told or self._look_back()).rest(final)
        except Diverged:
            message = (
                "The run that was streaming was lost and its answer isn't the one that counts: fetch that by its key."
            )
            return self.fail(StreamDiverged(message))
        return _event(rest) + self._usage(final) + DONE

    def _is_complete(self, frame: RawFrame) -> bool:
        """Whether this run's every frame was written, the last of them with a finish reason."""
        if self._told is not None or not self._sent or frame.headers.get("run") != self._run:
            return False
        last = self._sent[-1]
        finished = b'"finish_reason":"' in last or b'"finish_reason": "' in last
        return finished and frame.number("sequence") == self._sequence

    def _usage(self, final: dict[str, Any]) -> bytes:
        if not (self._include_usage and final.get("usage")):
            return b""
        return _event(self._shape.chunk(final, choices=[], usage=final["usage"]))

    def _end(self, error: bytes) -> bytes:
        self.closed = True
        return _event(error.replace(b"\n", b" "))  # an upstream's pretty-printed JSON would end the event early


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n" if data else b""
