"""A stage's spans, and the trace context of what it publishes.

A record that comes again after a crash must make the same bytes, so nothing in a header may be random or read from a
clock: the ids follow from the record's trace and its place. The spans of a replay then have the ids of the first time,
and other times: the same work, done twice. What follows is under either, and whichever of the two a backend keeps, the
tree is whole. Were the ids new each time, what had gone on after the first would be under a span that may never have
been exported.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from contracts.envelope import RequestType
from contracts.kafka import header
from contracts.kafka_spans import process_span, send_span
from contracts.topics import Topics
from contracts.tracing import Span, TraceContext, Tracer, tracer
from streams.records import Output, Record

Decide = Callable[[Record], list[Output]]
_ROUTED = {  # header that the route adds: attribute
    "route": "millrace.route",
    "model": "millrace.model",
    "complexity": "millrace.complexity",
    "router-version": "millrace.router_version",
}


class StageSpans:
    """Of one stage in this process."""

    def __init__(self, using: Tracer, stage: str, topics: Topics) -> None:
        self._tracer = using
        self._stage = stage
        self._topics = topics

    @classmethod
    def of(cls, stage: str, topics: Topics) -> "StageSpans | None":
        """None while traces are off."""
        using = tracer()
        return cls(using, stage, topics) if using else None

    def batch(self) -> "BatchSpans":
        return BatchSpans(self._tracer, self._begin)

    def _begin(self, record: Record) -> Span | None:
        """None for what belongs to no trace."""
        parent = TraceContext.of(record.headers)
        if parent is None and not self._begins_a_trace(record):
            return None
        seed = f"{self._stage} {record.topic}-{record.partition}@{record.offset}"
        if parent is None:
            seed += f" {record.timestamp}"  # a topic that was deleted and made again counts anew
        return process_span(self._tracer, self._stage, record, self._topics.streams_app, parent, seed=seed)

    def _begins_a_trace(self, record: Record) -> bool:
        """A direct producer's request that has none."""
        kind = header(record.headers, "ce_type")
        return record.topic == self._topics.requests and kind in (None, RequestType.REQUEST.encode())


class _Done(NamedTuple):
    span: Span
    sends: list[Span]
    routing: Span | None
    decided_ns: int


class BatchSpans:
    """From decisions to deliveries."""

    def __init__(self, using: Tracer, begin: Callable[[Record], Span | None]) -> None:
        self._tracer = using
        self._begin = begin
        self._done: list[_Done] = []

    def decide(self, decide: Decide, record: Record) -> list[Output]:
        """What the decision says, each record of it with the context of its own sending."""
        span = self._begin(record)
        if span is None:
            return decide(record)
        outputs = decide(record._replace(headers=span.context.put_into(record.headers)))
        at_ns = time.time_ns()
        sends = [
            send_span(self._tracer, out.topic, out.key, span.context, seed=f"send {number}", at_ns=at_ns)
            for number, out in enumerate(outputs)
        ]
        if span.context.sampled:
            if outcome := header(record.headers, "outcome"):
                span.attributes["millrace.outcome"] = outcome.decode("utf-8", "replace")
            self._done.append(_Done(span, sends, self._routing(span, record, outputs), at_ns))
        return [
            out._replace(headers=send.context.put_into(out.headers)) for out, send in zip(outputs, sends, strict=True)
        ]

    def delivered(self) -> None:
        """Everything is in Kafka. Only now are spans exported: none is without its parent when this process dies."""
        at_ns = time.time_ns()
        for span, sends, routing, decided_ns in self._done:
            if routing:
                self._tracer.end(routing, decided_ns)
            for send in sends:
                self._tracer.end(send, at_ns)
            self._tracer.end(span, at_ns)

    def _routing(self, span: Span, record: Record, outputs: list[Output]) -> Span | None:
        """The meter's choice of a model, if this was one."""
        if header(record.headers, "route") is not None:
            return None
        for out in outputs:
            if header(out.headers, "route") is not None:
                routing = self._tracer.begin("route", "internal", span.context, seed="route", at_ns=span.start_ns)
                said = {name: header(out.headers, name) or b"" for name in _ROUTED}
                routing.attributes = {_ROUTED[name]: text.decode("utf-8", "replace") for name, text in said.items()}
                return routing
        return None
