"""Server-sent events on the wire: frames in, one write for all that came together."""

import asyncio
from dataclasses import dataclass

import structlog
from starlette.types import Receive, Scope, Send

from contracts.errors import MillraceError
from ingress.answers import RawHttpHeaders
from ingress.calls import Call
from ingress.frame import RawFrame
from ingress.stream import AnswerStream

log = structlog.get_logger()

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events
]


@dataclass(slots=True)
class EventStream:
    """A streaming HTTP response; it owns the call and closes it."""

    call: Call
    stream: AnswerStream
    frames: list[RawFrame]
    headers: RawHttpHeaders
    idle_seconds: float  # without a frame for so long, the stream ends with `idle_error`
    idle_error: MillraceError

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *self.headers]})
            while not self.stream.closed:
                events = self._feed()
                if events:
                    await send({"type": "http.response.body", "body": events, "more_body": not self.stream.closed})
                if not self.stream.closed:
                    self.frames = await self.call.frames(asyncio.get_running_loop().time() + self.idle_seconds)
        finally:
            self.call.close()

    def _feed(self) -> bytes:
        if not self.frames:
            return self.stream.fail(self.idle_error)
        try:
            return b"".join([self.stream.feed(frame) for frame in self.frames])
        except Exception:
            log.exception("a frame can't be streamed", key=self.call.key.decode())
            return self.stream.fail(MillraceError("The server had an error; its log says more."))
