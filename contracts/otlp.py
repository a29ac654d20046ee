"""Spans to a collector by OpenTelemetry's SDK: batches from a thread of their own, so that nobody waits for it."""

import os
import socket
import sys
import threading
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from contracts.errors import ConfigError
from contracts.tracing import Kind, Span, TraceContext

_STOP_SECONDS = 3.0  # a collector that hangs mustn't hold up the end of a process
_PROTOCOL = "http/protobuf"
_KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class Pipeline:
    """Sampler, limits, batches, endpoint, headers and resource are the SDK's, by its OTEL_… variables."""

    def __init__(self, service: str, exporters: list[str]) -> None:
        """Raises ConfigError."""
        self._ids = _GivenIds()
        self._provider = TracerProvider(resource=_resource(service), id_generator=self._ids, shutdown_on_exit=False)
        self._sampler = self._provider.sampler
        self._provider.sampler = ALWAYS_ON  # decided when a span begins; here come those that have ended
        for name in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
        self._tracer = self._provider.get_tracer("millrace", version("millrace"))

    def samples(self, parent: TraceContext | None, trace_id: str, name: str, kind: Kind) -> bool:
        result = self._sampler.should_sample(_within(parent), int(trace_id, 16), name, _KINDS[kind])
        return result.decision is Decision.RECORD_AND_SAMPLE

    def export(self, span: Span, end_ns: int) -> None:
        """Queued; when the queue is full the oldest is dropped, and the SDK's log says so."""
        self._ids.give(span.context)
        links = [Link(_context(other)) for other in span.links]
        attributes = {**span.attributes, "error.type": span.error} if span.error else span.attributes
        exported = self._tracer.start_span(
            span.name, _within(span.parent), _KINDS[span.kind], attributes, links, span.start_ns
        )
        for name, at_ns in span.events:
            exported.add_event(name, timestamp=at_ns)
        if span.error:
            exported.set_status(Status(StatusCode.ERROR))
        exported.end(end_ns)

    def stop(self) -> None:
        ending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)


class _GivenIds(IdGenerator):
    """Of the span that is being exported."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def give(self, context: TraceContext) -> None:
        self._trace_id, self._span_id = int(context.trace_id, 16), int(context.span_id, 16)

    def generate_span_id(self) -> int:
        return self._span_id

    def generate_trace_id(self) -> int:
        return self._trace_id


def _within(parent: TraceContext | None) -> Context:
    return set_span_in_context(NonRecordingSpan(_context(parent)), _NOWHERE) if parent else _NOWHERE


_NOWHERE = Context()


def _context(context: TraceContext) -> SpanContext:
    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(context.flags),
        trace_state=state,
    )


def _resource(service: str) -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    ours = {
        "service.namespace": "millrace",
        "service.name": f"millrace-{service}",
        "service.version": version("millrace"),
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    return Resource.create(ours | dict(OTELResourceDetector().detect().attributes))


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    if name != "otlp":
        raise ConfigError(f"OTEL_TRACES_EXPORTER names {name!r}; Millrace has otlp, console and none.")
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (protocol := os.environ.get(variable)) and protocol != _PROTOCOL:
            raise ConfigError(f"{variable} is {protocol!r}; Millrace speaks {_PROTOCOL}, mostly on port 4318.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter()
