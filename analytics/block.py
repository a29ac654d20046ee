"""A block of usage events on its way from Kafka to the ledger, as the bytes that came."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from aiokafka import ConsumerRecord, TopicPartition
from pydantic import ValidationError

from contracts.faults import first_fault
from contracts.usage import UsageEvent

_BRACE = ord("}")
_ROWS_PER_PIECE = 1000  # pieces of about a megabyte are built in the same memory again and again


def lines(records: Sequence[ConsumerRecord]) -> Iterator[bytes]:
    """JSON lines: each event's own bytes, with topic, partition and offset written before the closing brace."""
    places = {place: _place(*place) for place in {(record.topic, record.partition) for record in records}}
    for start in range(0, len(records), _ROWS_PER_PIECE):
        piece = records[start : start + _ROWS_PER_PIECE]
        yield b"".join([b"%b%b%d}\n" % (r.value[:-1], places[r.topic, r.partition], r.offset) for r in piece])


def next_offsets(records: Sequence[ConsumerRecord]) -> dict[TopicPartition, int]:
    """What to commit once all are stored."""
    last = {(record.topic, record.partition): record.offset for record in records}
    return {TopicPartition(*place): offset + 1 for place, offset in last.items()}


def looks_whole(records: Sequence[ConsumerRecord]) -> bool:
    """Whether each value ends as a JSON object does, so that lines() can write into it."""
    try:
        return {record.value[-1] for record in records} <= {_BRACE}
    except (TypeError, IndexError):  # there is none, or it is empty
        return False


def event_line(record: ConsumerRecord) -> bytes:
    """One event, checked against the contract and written anew. Raises ValueError with a reason in public words."""
    try:
        event = UsageEvent.model_validate_json(record.value or b"")
    except ValidationError as error:
        raise ValueError(_reason(error)) from None
    return event.model_dump_json().encode()[:-1] + _position(record)


def _position(record: ConsumerRecord) -> bytes:
    return _place(record.topic, record.partition) + b"%d}\n" % record.offset


@lru_cache(maxsize=1024)
def _place(topic: str, partition: int) -> bytes:
    return b',"topic":"%b","partition":%d,"offset":' % (topic.encode(), partition)


def _reason(error: ValidationError) -> str:
    field, what = first_fault(error)
    return f"Not a usage event: {field + ': ' if field else ''}{what}."
