"""Feedback from Kafka into ClickHouse."""

from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from analytics.side_sink import Row, Side
from contracts.feedback import Feedback
from contracts.keys import RequestKey

_COLUMNS = ("tenant", "idempotency_key", "score", "label", "given_at", "partition", "offset")


def _row(record: ConsumerRecord) -> Row:
    """Raises InvalidRequest."""
    key, feedback = RequestKey.decode(record.key), Feedback.decode(record.value)
    given_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return (*key, feedback.score, feedback.label, given_at, record.partition, record.offset)


FEEDBACK = Side("feedback", _COLUMNS, _row)
