"""Spans about Kafka, named and described as OpenTelemetry's messaging conventions have it.

Who processes a record does so under the span that sent it, so that a request is one trace, and links to it as well:
backends that follow the conventions to the letter look there. Source, as of 2026:
https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
"""

from typing import Protocol

from contracts.headers import RawHeaders
from contracts.tracing import Attributes, Span, TraceContext, Tracer


class Consumed(Protocol):
    """A record, as a consumer has it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """UTC ms."""

    @property
    def key(self) -> bytes | None: ...


def process_span(
    tracer: Tracer,
    operation: str,
    record: Consumed,
    group: str,
    parent: TraceContext | None,
    *,
    seed: str = "",
    at_ns: int = 0,
) -> Span:
    """What a consumer group does with one record."""
    span = tracer.begin(f"{operation} {record.topic}", "consumer", parent, seed=seed, at_ns=at_ns)
    if span.context.sampled:
        span.attributes = _about(operation, "process", record.topic, record.key) | {
            "messaging.consumer.group.name": group,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "millrace.kafka.wait_ms": max(0, span.start_ns // 1_000_000 - record.timestamp),
        }
        if parent:
            span.links = [parent]
    return span


def send_span(
    tracer: Tracer, topic: str, key: bytes | None, parent: TraceContext | None, *, seed: str = "", at_ns: int = 0
) -> Span:
    """One record on its way, until every in-sync replica has it. Its context travels with the record."""
    span = tracer.begin(f"send {topic}", "producer", parent, seed=seed, at_ns=at_ns)
    if span.context.sampled:
        span.attributes = _about("send", "send", topic, key)
    return span


def receive_span(tracer: Tracer, topic: str, headers: RawHeaders, parent: TraceContext, *, since_ns: int) -> Span:
    """Somebody waited for that record."""
    span = tracer.begin(f"receive {topic}", "client", parent, at_ns=since_ns)
    if span.context.sampled:
        span.attributes = _about("receive", "receive", topic, None)
        sent = TraceContext.of(headers)
        span.links = [sent] if sent else []
    return span


def _about(operation: str, kind: str, topic: str, key: bytes | None) -> Attributes:
    attributes: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
    if key:
        attributes["messaging.kafka.message.key"] = key.decode("utf-8", "replace")
    return attributes
