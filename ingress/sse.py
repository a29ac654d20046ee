"""Server-sent events on the wire: frames in, one write for all that came together."""

import asyncio
from dataclasses import dataclass

import structlog
from starlette.types import Receive, Scope, Send

from contracts.errors import MillraceError
from ingress.answers import RawHttpHeaders
from ingress.calls import Call
from ingress.following import Following
from ingress.frame import RawFrame
from ingress.metrics import sse_streams
from ingress.spans import heard
from ingress.stream import AnswerStream
from ingress.wire import SSE

log = structlog.get_logger()

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events
]


@dataclass(frozen=True, slots=True)
class Patience:
    """How a stream without news is kept: seconds."""

    heartbeat_seconds: float  # a comment this often, so that no proxy closes it
    idle_seconds: float  # without a frame for so long, it ends with `idle_error`
    idle_error: MillraceError


@dataclass(slots=True)
class EventStream:
    """A streaming HTTP response; it owns the call and closes it."""

    call: Call
    stream: AnswerStream
    frames: list[RawFrame]
    headers: RawHttpHeaders
    patience: Patience

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        stream = self.stream
        sse_streams.inc()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *self.headers]})
            while not stream.closed:
                if not self.frames:
                    await self._wait(send)
                if events := tell(self.call, stream, self.frames, self.patience.idle_error):
                    await send({"type": "http.response.body", "body": events, "more_body": not stream.closed})
                self.frames = []
                if self.call.lagging and isinstance(self.call, Following) and not stream.closed:
                    await self.call.listen_again()
        finally:
            sse_streams.dec()
            self.call.close()
            log.debug("streamed", whole=stream.closed)

    async def _wait(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        until = now() + self.patience.idle_seconds
        while not self.frames and not self.call.over and now() < until:
            self.frames = await self.call.frames(min(until, now() + self.patience.heartbeat_seconds))
            if not self.frames and not self.call.over:
                await send({"type": "http.response.body", "body": SSE.HEARTBEAT, "more_body": True})


def tell(call: Call, stream: AnswerStream, frames: list[RawFrame], idle_error: MillraceError) -> bytes:
    """What frames say to a client; no frames are the end of its patience."""
    if not frames:
        return stream.fail(idle_error)
    heard(frames)
    try:
        return b"".join([stream.feed(frame) for frame in frames])
    except Exception:
        log.exception("a frame can't be streamed", key=call.key.decode())
        return stream.fail(MillraceError("The server had an error; its log says more."))
