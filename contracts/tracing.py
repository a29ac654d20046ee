"""Traces: W3C trace context through HTTP and through Kafka's record headers, and spans for whoever collects them.

On when the standard OTEL_… variables ask for it (docs/observability.md). Off, `tracer()` is None and nothing of
OpenTelemetry's SDK is imported. A span is put together here, and handed over when it has ended.

Sources: W3C Trace Context (https://www.w3.org/TR/trace-context/); OpenTelemetry semantic conventions for HTTP,
messaging with Kafka, and generative AI.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from contracts.headers import RawHeaders
from contracts.kafka import header

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
MOST_STATE = 512  # characters of tracestate that are passed on; a longer one may be dropped
Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | int | float | bool | list[str]
Attributes = dict[str, Attribute]

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


class TraceContext(NamedTuple):
    """Which trace, and which span of it: what travels."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    flags: int
    state: str = ""  # tracestate, as it came

    @classmethod
    def parse(cls, traceparent: bytes | None, tracestate: bytes | None = None) -> Self | None:
        """None when it doesn't fit: then the trace begins anew, as the recommendation has it."""
        found = _TRACEPARENT.fullmatch(traceparent or b"")
        if not found or found[1] == b"ff" or not (int(found[2], 16) and int(found[3], 16)):
            return None
        state = (tracestate or b"").decode("ascii", "ignore")
        return cls(found[2].decode(), found[3].decode(), int(found[4], 16), state if len(state) <= MOST_STATE else "")

    @classmethod
    def of(cls, headers: RawHeaders) -> Self | None:
        """Of a Kafka record."""
        return cls.parse(header(headers, TRACEPARENT), header(headers, TRACESTATE))

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> bytes:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}".encode()

    def headers(self) -> RawHeaders:
        pairs = [(TRACEPARENT, self.traceparent)]
        return [*pairs, (TRACESTATE, self.state.encode())] if self.state else pairs

    def put_into(self, headers: RawHeaders) -> RawHeaders:
        """In the place of what they say."""
        return [*(pair for pair in headers if pair[0] not in (TRACEPARENT, TRACESTATE)), *self.headers()]


@dataclass(slots=True)
class Span:
    """Something that took time; times are UTC ns. Never any prompt or answer text in it."""

    name: str
    kind: Kind
    context: TraceContext
    parent: TraceContext | None
    start_ns: int
    attributes: Attributes = field(default_factory=dict)
    links: list[TraceContext] = field(default_factory=list)
    events: list[tuple[str, int]] = field(default_factory=list)  # name, when
    error: str = ""  # error.type, of low cardinality


class Tracer:
    """`samples` decides about a span from its parent, trace id, name and kind; `export` takes it when it has ended, and
    never waits."""

    def __init__(
        self, samples: Callable[[TraceContext | None, str, str, Kind], bool], export: Callable[[Span, int], None]
    ) -> None:
        self._samples = samples
        self._export = export

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: TraceContext | None = None,
        *,
        seed: str = "",
        at_ns: int = 0,
    ) -> Span:
        """Under that parent, or as the first of a trace. With a `seed` its ids follow from that and the parent alone.
        One that isn't sampled passes its context on all the same, so that nobody further down begins a trace."""
        trace_id = parent.trace_id if parent else _id(16, seed)
        span_id = _id(8, seed and f"{trace_id}\n{parent.span_id if parent else ''}\n{seed}")
        sampled = self._samples(parent, trace_id, name, kind)
        flags = (parent.flags if parent else 0) & ~_SAMPLED | sampled
        context = TraceContext(trace_id, span_id, flags, parent.state if parent else "")
        return Span(name, kind, context, parent, at_ns or time.time_ns())

    def end(self, span: Span, at_ns: int = 0) -> None:
        if span.context.sampled:
            self._export(span, max(at_ns or time.time_ns(), span.start_ns))


def _id(size: int, seed: str) -> str:
    return hashlib.blake2b(seed.encode(), digest_size=size).hexdigest() if seed else os.urandom(size).hex()


class _Process:
    """What this process has."""

    tracer: Tracer | None = None
    stop: Callable[[], None] | None = None


def tracer() -> Tracer | None:
    """None while traces are off."""
    return _Process.tracer


def start(service: str) -> None:
    """`service` is its name unless the environment gives it one. Raises ConfigError."""
    exporters = _wanted_exporters()
    if not exporters:
        return
    from contracts.otlp import Pipeline  # noqa: PLC0415 - what isn't wanted isn't imported

    pipeline = Pipeline(service, exporters)
    _Process.tracer, _Process.stop = Tracer(pipeline.samples, pipeline.export), pipeline.stop


def stop() -> None:
    """Hands over what is left, within a limit; what a collector doesn't take by then is lost."""
    if _Process.stop:
        _Process.stop()
    _Process.tracer = _Process.stop = None


def _wanted_exporters() -> list[str]:
    """By the specification's variables; but while nothing is set at all, nothing is exported."""
    environment = os.environ
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = [name.strip() for name in environment.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()]
    if named:
        return [name for name in named if name != "none"]
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return ["otlp"] if any(environment.get(name) for name in endpoints) else []
