"""The spans of a call: the HTTP request or WebSocket message, the records it writes, the frames it waits for."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.headers import RawHeaders
from contracts.kafka_spans import receive_span, send_span
from contracts.topics import Topics
from contracts.tracing import TRACEPARENT, TRACESTATE, Span, TraceContext, Tracer, tracer
from ingress.frame import RawFrame
from ingress.requestlog import RequestLog

_NO_ROUTE = ""  # nothing of ours is at that path, so it says nothing in a span's name


class CallSpans:
    """What makes them, in this process."""

    def __init__(self, using: Tracer, topics: Topics) -> None:
        self.tracer = using
        self.topics = topics

    @classmethod
    def of(cls, topics: Topics) -> "CallSpans | None":
        """None while traces are off."""
        using = tracer()
        return cls(using, topics) if using else None

    @contextmanager
    def call(self, name: str, headers: dict[bytes, bytes]) -> Iterator[Span]:
        """What is done within it is of this call; `headers` are the caller's, their names in lower case."""
        parent = TraceContext.parse(headers.get(TRACEPARENT.encode()), headers.get(TRACESTATE.encode()))
        span = self.tracer.begin(name, "server", parent)
        token = _present.set(_Call(self, span, span.start_ns))
        try:
            yield span
        except BaseException as error:
            span.error = type(error).__name__
            raise
        finally:
            _present.reset(token)
            self.tracer.end(span)


@dataclass(slots=True)
class _Call:
    spans: CallSpans
    span: Span
    waits_since_ns: int


_present: ContextVar[_Call | None] = ContextVar("call", default=None)


def trace_headers() -> dict[str, bytes]:
    """Of whatever is written on behalf of the present call; none while traces are off."""
    call = _present.get()
    return dict(call.span.context.headers()) if call else {}


def heard(frames: Iterable[RawFrame]) -> None:
    """Frames, of which some say where they were sent from: the first of a stream, and the one that ends the answer."""
    call = _present.get()
    if call is None:
        return
    using = call.spans.tracer
    for frame in frames:
        if TRACEPARENT in frame.headers:
            headers = [*frame.headers.items()]
            topic = call.spans.topics.responses
            span = receive_span(using, topic, headers, call.span.context, since_ns=call.waits_since_ns)
            span.attributes["millrace.frame"] = frame.text("kind")
            using.end(span)


class TracedLog:
    """A RequestLog that tells of each record."""

    def __init__(self, log: RequestLog, spans: CallSpans) -> None:
        self._log = log
        self._spans = spans

    @property
    def reachable(self) -> bool:
        return self._log.reachable

    async def append(self, key: bytes, value: bytes, headers: RawHeaders, topic: str | None = None) -> None:
        parent = TraceContext.of(headers)
        if parent is None:
            await self._log.append(key, value, headers, topic)
            return
        span = send_span(self._spans.tracer, topic or self._spans.topics.requests, key, parent)
        try:
            await self._log.append(key, value, span.context.put_into(headers), topic)
        except BaseException as error:
            span.error = type(error).__name__
            raise
        finally:
            self._spans.tracer.end(span)
            if call := _present.get():
                call.waits_since_ns = time.time_ns()


class TracedApp:
    """The HTTP application, with a span for each request to the API."""

    def __init__(self, app: ASGIApp, spans: CallSpans) -> None:
        self._app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        with self._spans.call(scope["method"], dict(scope["headers"])) as span:
            try:
                await self._app(scope, receive, _watched(send, span))
            finally:
                _describe(span, scope)


def _watched(send: Send, span: Span) -> Send:
    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            status: int = message["status"]
            span.attributes["http.response.status_code"] = status
            if status >= 500:
                span.error = str(status)
        await send(message)

    return watched


def _describe(span: Span, scope: Scope) -> None:
    """Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/"""
    template = getattr(scope.get("route"), "path", _NO_ROUTE).replace(":path}", "}")
    span.name = f"{scope['method']} {template}".rstrip()
    span.attributes |= {
        "http.request.method": scope["method"],
        "url.scheme": scope["scheme"],
        "url.path": scope["path"],
        "network.protocol.version": scope.get("http_version", ""),
    }
    if template:
        span.attributes["http.route"] = template
    if server := scope.get("server"):
        span.attributes["server.address"], span.attributes["server.port"] = server[0], server[1] or 0
