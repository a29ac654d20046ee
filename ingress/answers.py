"""HTTP answers, made of bytes that are already there."""

import math
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import Receive, Scope, Send

from contracts.errors import MillraceError, StillRunning, Unacknowledged
from contracts.outcomes import Outcome
from ingress.frame import RawFrame
from ingress.identity import Identity
from ingress.rate_limits import rate_limit_headers

RawHttpHeaders = list[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")
_PATIENCE_MS = 60_000  # OpenAI's SDK waits no longer, but tries again sooner, in vain, unless it is told not to
_CANCELLED = Outcome.CANCELLED.encode()


@dataclass(slots=True)
class Answer:
    """A whole HTTP response. (Starlette's own encodes headers that are bytes already.)"""

    status: int
    headers: RawHttpHeaders
    body: bytes

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [*self.headers, (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(body: bytes, headers: RawHttpHeaders, status: int = 200) -> Answer:
    return Answer(status, [JSON, *headers], body)


def key_headers(identity: Identity, window_hours: int) -> RawHttpHeaders:
    """On every answer to a named request, errors too."""
    key = identity.key.idempotency_key.encode()
    return [
        (b"idempotency-key", key),
        (b"x-request-id", key),
        (b"millrace-idempotency-window", str(window_hours * 3600).encode()),  # seconds
    ]


def location(identity: Identity) -> tuple[bytes, bytes]:
    return b"location", f"/v1/requests/{quote(identity.key.idempotency_key, safe='')}".encode()


def frame_headers(frame: RawFrame) -> RawHttpHeaders:
    """What a frame's headers tell about the answer."""
    headers: RawHttpHeaders = []
    if model := frame.headers.get("model"):
        headers.append((b"millrace-model", model))
    if fallback_from := frame.headers.get("fallback-from"):
        headers.append((b"millrace-fallback-from", fallback_from))
        headers.append((b"millrace-fallback-reason", frame.headers.get("fallback-reason", b"")))
    if escalated := frame.headers.get("escalated"):
        headers.append((b"millrace-escalated", escalated))  # another model answered first: why that didn't stand
    if frame.headers.get("outcome") == _CANCELLED:
        headers.append((b"millrace-outcome", _CANCELLED))  # the answer is what it had got to
    if frame.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    if retry_after_ms := frame.number("retry-after-ms"):
        headers += [retry_after(retry_after_ms / 1000), (b"retry-after-ms", b"%d" % retry_after_ms)]
        if retry_after_ms > _PATIENCE_MS:
            headers.append((b"x-should-retry", b"false"))
    if rate_limits := frame.headers.get("rate-limits"):
        headers += rate_limit_headers(rate_limits)
    return headers


def frame_answer(frame: RawFrame, headers: RawHttpHeaders) -> Answer:
    """The answer's, or the error's, own bytes and status."""
    return json_answer(frame.value, [*headers, *frame_headers(frame)], frame.status)


def error_answer(error: MillraceError, identity: Identity | None, headers: RawHttpHeaders) -> Answer:
    """OpenAI's error object. A caller without the key can't repeat a request that may run: its SDK is told not to."""
    headers = list(headers)
    if error.retry_after is not None:
        headers.append(retry_after(error.retry_after))
    if identity and isinstance(error, StillRunning | Unacknowledged):
        headers.append(location(identity))
        if identity.generated:
            headers.append((b"x-should-retry", b"false"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return json_answer(error.body(), headers, error.status)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """Whole seconds, rounded up: a retry then is not too early."""
    return b"retry-after", str(max(1, math.ceil(seconds))).encode()
