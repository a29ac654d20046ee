"""A collector of spans: OTLP over HTTP, in a thread of the test's own process."""

import asyncio
import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from tests.support.until import until


@dataclass(frozen=True)
class Seen:
    """A span, as it was exported."""

    service: str
    instance: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: tuple[str, ...]
    links: frozenset[tuple[str, str]]  # trace, span
    failed: bool


@dataclass
class Collector:
    """`answering`: while it isn't set, exports wait for an answer that doesn't come."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def of(self, trace_id: str) -> list[Seen]:
        """Each span once, in the order of their beginnings."""
        spans = {span.span_id: span for span in list(self.spans) if span.trace_id == trace_id}
        return sorted(spans.values(), key=lambda span: span.start_ns)

    async def trace(self, trace_id: str, complete: Callable[[Counter[str]], bool]) -> list[Seen]:
        """As soon as the names of its spans are all there. Raises TimeoutError."""

        async def there() -> bool:
            return complete(Counter(span.name for span in self.of(trace_id)))

        try:
            await until(there)
        except TimeoutError:
            raise TimeoutError(f"only {[span.name for span in self.of(trace_id)]}") from None
        await asyncio.sleep(0)
        return self.of(trace_id)

    def take(self, body: bytes) -> None:
        sent = ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            who = _attributes(resource.resource.attributes)
            self.spans += [_seen(who, span) for scope in resource.scope_spans for span in scope.spans]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    collector.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.asked += 1
            collector.answering.wait()
            collector.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return  # who exported has ended, or no longer waits

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()


def tree(spans: list[Seen]) -> str:
    """As people would draw it: each span under its parent, with its begin and length in milliseconds."""
    known = {span.span_id for span in spans}
    began = min(span.start_ns for span in spans)
    lines: list[str] = []

    def draw(span: Seen, depth: int) -> None:
        at, took = (span.start_ns - began) / 1e6, (span.end_ns - span.start_ns) / 1e6
        lines.append(f"{at:8.1f} {took:8.1f}  {'  ' * depth}{span.name}  ({span.service.removeprefix('millrace-')})")
        for child in spans:
            if child.parent_id == span.span_id:
                draw(child, depth + 1)

    for span in spans:
        if span.parent_id not in known:
            draw(span, 0)
    return "\n".join(lines)


def _seen(who: dict[str, Any], span: Sent) -> Seen:
    return Seen(
        who["service.name"],
        who["service.instance.id"],
        span.name,
        Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        tuple(event.name for event in span.events),
        frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
