"""What the workers' engines did with their time, from Kafka into ClickHouse."""

from datetime import UTC, datetime

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from analytics.side_sink import Row, Side
from contracts.engine_time import EngineTime
from contracts.errors import InvalidRequest
from contracts.faults import first_fault

_COLUMNS = tuple(EngineTime.model_fields)
_TIMES = ("since", "until")


def _row(record: ConsumerRecord) -> Row:
    """Raises InvalidRequest."""
    try:
        told = EngineTime.model_validate_json(record.value or b"")
    except ValidationError as error:
        raise InvalidRequest(f"Not an engine's time: {first_fault(error)[1]}.") from None
    values = told.model_dump()
    return tuple(_moment(values[name]) if name in _TIMES else values[name] for name in _COLUMNS)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


ENGINE_TIME = Side("engine_time", _COLUMNS, _row)
