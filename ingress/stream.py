"""A streamed answer: (state, frame) → bytes to write, and no I/O.

What a client has been sent is always how the final text begins, or else its stream ends with an error event.
Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from typing import Any

import orjson

from contracts.errors import MillraceError, StreamDiverged
from ingress.event_id import START, End, EventId, run_tag
from ingress.frame import DELTA, ERROR, FINAL, RawFrame
from ingress.told import Diverged, Told, begins, shape_of
from ingress.wire import SSE, Wire


class AnswerStream:
    """Writes one run's deltas through unparsed while they come unbroken. From the first gap, repetition or second run
    on it parses: by position in the text, it sends what goes on from what was sent, and settles up at the end.

    With `after` it is another stream's continuation: fed the request's frames from the beginning, it takes in silently
    what the client has had, by the same rules, and goes on from there.
    """

    def __init__(self, *, include_usage: bool = False, after: EventId = START, wire: Wire = SSE) -> None:
        self.closed = False
        self._include_usage = include_usage and after.end < End.USAGE
        self._after = after
        self._wire = wire
        self._sent: list[bytes] = []  # chunks; read again only when something went wrong
        self._run = b""
        self._tag = after.run
        self._sequence = after.sequence if after.end else 0
        self._retracing = after.sequence > 0 and not after.end  # until the frames are found that the client has had
        self._told: Told | None = None  # set once frames stopped being one unbroken run
        self._owner = b""  # the run that has taken over: no other counts any more
        self._strays: set[bytes] = set()  # runs that say another text than the one sent
        self._lost = False  # the frames give another text than the client has: the answer will tell

    def feed(self, frame: RawFrame) -> bytes:
        """Events for the client; nothing for a frame that tells it nothing new."""
        if self.closed:
            return b""
        kind = frame.headers.get("kind")
        if kind == DELTA:
            return b"" if self._after.end else self._delta(frame)
        if kind == FINAL:
            return self._final(frame)
        return self._end(frame.value, frame.status) if kind == ERROR else b""

    def fail(self, error: MillraceError) -> bytes:
        """An error event; the stream is closed."""
        return self._end(error.body(), error.status)

    def needs_deltas(self, final: RawFrame) -> bool:
        """Whether the final frame alone can't tell how to go on."""
        if self._after.end or final.kind != FINAL:
            return False
        try:
            self._as_told(final, orjson.loads(final.value))
        except Diverged:
            return True
        return False

    def _delta(self, frame: RawFrame) -> bytes:
        headers, chunk = frame
        run, sequence = headers["run"], int(headers["sequence"])
        if sequence == 0:
            self._owner = run
        if sequence == 0 or (self._owner and run != self._owner):
            return b""
        if self._retracing:
            self._retrace(run, sequence, int(headers["position"]), chunk)
            return b""
        if sequence == 1 and not self._sent and not self._after.position and begins(chunk, int(headers["position"])):
            self._begin(run)
        if run == self._run and self._told is None:
            if sequence == self._sequence + 1:
                self._sequence = sequence
                self._sent.append(chunk)
                return self._wire.chunk(b"%b.%b.%b" % (self._tag, headers["sequence"], headers["position"]), chunk)
            if sequence <= self._sequence:
                return b""
        return b"" if run in self._strays else self._go_on(run, chunk, int(headers["position"]))

    def _begin(self, run: bytes) -> None:
        self._run, self._tag, self._sequence, self._told = run, run_tag(run), 0, None

    def _retrace(self, run: bytes, sequence: int, position: int, chunk: bytes) -> None:
        if run_tag(run) != self._after.run or sequence != self._sequence + 1:
            return
        self._run, self._sequence = run, sequence
        self._sent.append(chunk)
        if sequence == self._after.sequence:
            self._retracing = False
            if position < self._after.position:  # text of other runs followed
                self._told = self._look_back()

    def _go_on(self, run: bytes, chunk: bytes, position: int) -> bytes:
        told = self._told = self._told or self._look_back()
        try:
            if len(told.text) < self._after.position:
                self._catch_up(told, chunk, position)
            unsaid = b"" if self._lost else told.unsaid(chunk, position)
        except Diverged:
            self._strays.add(run)
            return b""
        self._tell(told, unsaid)
        return self._wire.chunk(self._id(len(told.text), told.checksum), unsaid) if unsaid else b""

    def _catch_up(self, told: Told, chunk: bytes, position: int) -> None:
        after = self._after
        self._tell(told, told.unsaid(chunk, position, after.position))
        self._lost = len(told.text) == after.position and told.checksum != after.checksum

    def _tell(self, told: Told, chunk: bytes) -> None:
        if chunk:
            told.add(chunk)
            self._sent.append(chunk)

    def _look_back(self) -> Told:
        told = Told()
        for chunk in self._sent:
            told.add(chunk)
        return told

    def _final(self, frame: RawFrame) -> bytes:
        self.closed = True
        position = frame.number("position")
        done = self._wire.done(self._end_id(position, End.DONE))
        complete = self._after.end >= End.REST or self._is_complete(frame)
        if complete and not self._include_usage:
            return done
        final = orjson.loads(frame.value)
        try:
            rest = b"" if complete else self._as_told(frame, final).rest(final)
        except Diverged:
            message = (
                "The run that was streaming was lost and its answer isn't the one that counts: fetch that by its key."
            )
            return self.fail(StreamDiverged(message))
        return self._event(rest, position, End.REST) + self._event(self._usage(final), position, End.USAGE) + done

    def _as_told(self, frame: RawFrame, final: dict[str, Any]) -> Told:
        """What the client has been told. Raises Diverged when that can't be known."""
        if self._retracing or self._lost:
            return self._recall(frame, final)
        told = self._told or self._look_back()
        return self._recall(frame, final) if len(told.text) < self._after.position else told

    def _recall(self, frame: RawFrame, final: dict[str, Any]) -> Told:
        after, told = self._after, Told()
        same_run = after.checksum is None and run_tag(frame.headers.get("run", b"")) == after.run
        told.recall(final, after.position, finished=same_run and after.sequence == frame.number("sequence"))
        if not (same_run or told.checksum == after.checksum):
            raise Diverged
        return told

    def _is_complete(self, frame: RawFrame) -> bool:
        """Whether this run's every frame was written, the last of them with a finish reason."""
        if self._retracing or self._told is not None or not self._sent or frame.headers.get("run") != self._run:
            return False
        last = self._sent[-1]
        finished = b'"finish_reason":"' in last or b'"finish_reason": "' in last
        return finished and frame.number("sequence") == self._sequence

    def _usage(self, final: dict[str, Any]) -> bytes:
        if not (self._include_usage and final.get("usage")):
            return b""
        return shape_of(final).chunk(final, choices=[], usage=final["usage"])

    def _event(self, chunk: bytes, position: int, end: End) -> bytes:
        return self._wire.chunk(self._end_id(position, end), chunk) if chunk else b""

    def _id(self, position: int, checksum: int) -> bytes:
        return EventId(self._tag, self._sequence, position, checksum=checksum).encode()

    def _end_id(self, position: int, end: End) -> bytes:
        return EventId(self._tag, self._sequence, position, end).encode()

    def _end(self, error: bytes, status: int) -> bytes:
        self.closed = True
        return self._wire.error(error.replace(b"\n", b" "), status)  # pretty-printed JSON would end the event early
