"""The sink's spans: one for each block that goes into ClickHouse, and one for each event in its own request's trace.

By the conventions a batch is one span with links to all that is in it. That alone would end a request's trace before
the ledger: few backends follow a link backwards, and the SDK keeps 128 of a span's links where a block may have 100,000
events. So it is the other way round: each sampled event has a span under the one that sent it, which links to the
block. A large block tells of its first events only: then Kafka is being caught up with, and no request's latency is to
be seen in it.
"""

import time
from collections.abc import Iterable, Sequence

from aiokafka import ConsumerRecord

from contracts.kafka_spans import process_span
from contracts.topics import Topics
from contracts.tracing import Span, TraceContext, Tracer, tracer

_MOST_EVENTS = 500  # of one block; the exporter's queue holds 2,048 spans


class SinkSpans:
    def __init__(self, using: Tracer, topics: Topics) -> None:
        self._tracer = using
        self._group = topics.sink_group

    @classmethod
    def of(cls, topics: Topics) -> "SinkSpans | None":
        """None while traces are off."""
        using = tracer()
        return cls(using, topics) if using else None

    def begin(self) -> Span:
        """A block is about to be stored."""
        return self._tracer.begin("INSERT usage", "client")

    def stored(self, block: Span, records: Sequence[ConsumerRecord]) -> None:
        """It is in ClickHouse."""
        at_ns = time.time_ns()
        block.attributes = {
            "db.system.name": "clickhouse",
            "db.operation.name": "INSERT",
            "db.collection.name": "usage",
            "db.operation.batch.size": len(records),
        }
        for span in self._events(records, block.start_ns):
            span.links.append(block.context)
            self._tracer.end(span, at_ns)
        self._tracer.end(block, at_ns)

    def _events(self, records: Iterable[ConsumerRecord], at_ns: int) -> Iterable[Span]:
        count = 0
        for record in records:
            parent = TraceContext.of(record.headers)
            if parent is None or not parent.sampled:
                continue
            place = f"sink {record.topic}-{record.partition}@{record.offset}"
            yield process_span(self._tracer, "store", record, self._group, parent, seed=place, at_ns=at_ns)
            count += 1
            if count == _MOST_EVENTS:
                return
