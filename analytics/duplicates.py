"""Requests that were answered without a run, from Kafka into ClickHouse."""

from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from analytics.side_sink import Row, Side
from contracts.duplicate import Duplicate

_COLUMNS = ("tenant", "at", "place", "feature", "about", "how")


def _row(record: ConsumerRecord) -> Row:
    """Raises InvalidRequest."""
    told = Duplicate.decode(record.value)
    at = datetime.fromtimestamp(told.at / 1000, UTC)
    return (told.tenant, at, told.place, told.feature, told.about, told.how)


DUPLICATES = Side("duplicates", _COLUMNS, _row)
