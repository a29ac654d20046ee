"""The stage: where a block of events stands, parsed and checked by ClickHouse, before it may enter the ledger.

Its columns come from the contract. Numbers and times are Int64 there, since ClickHouse's JSON reader wraps a number
that is too large for its column (so it does beyond 64 bits, where no count and no cost comes), and takes an integer
for seconds or ticks depending on a setting.
"""

from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from contracts.usage import UsageEvent

TABLE = "stage"
POSITION = ("topic", "partition", "offset")  # of the event's record in Kafka
_FIELDS = UsageEvent.model_fields
_EPOCH_2020, _EPOCH_2200 = 1_577_836_800_000, 7_258_118_400_000  # ms: a time outside was written in another unit
_LARGEST = {"tokens": 2**32 - 1, "us": 2**63 - 1, "status": 999}  # by the last word of a field's name
_IDENTITY = ("event_id", "tenant", "idempotency_key", "claim")
_SQL_TYPES: dict[Any, str] = {bool: "Bool", int: "Int64", float: "Float64", dict: "Map(String, String)"}

# Temporary: of this session only, so that sinks on one server never meet in it and a crash leaves nothing behind.
_CREATE = "CREATE TEMPORARY TABLE IF NOT EXISTS {table} (\n  {columns}\n) ENGINE = Memory"

_NEW = """
INSERT INTO {table} ({columns})
SELECT {values}
FROM {stage}
WHERE throwIf((SELECT count() = {{count:UInt64}} AND {all_fit} FROM {stage}) = 0) = 0
  AND event_id NOT IN (
      SELECT event_id FROM {table}
      WHERE tenant IN (SELECT tenant FROM {stage})
        AND event_time BETWEEN (SELECT {first} FROM {stage}) AND (SELECT {last} FROM {stage})
  )
LIMIT 1 BY event_id
"""


def create_sql() -> str:
    columns = [_column(name, field) for name, field in _FIELDS.items()]
    columns += ["`topic` String", "`partition` Int64", "`offset` Int64"]
    return _CREATE.format(table=TABLE, columns=",\n  ".join(columns))


def insert_new_sql(table: str = "usage") -> str:
    """Moves the block's events that the ledger doesn't have yet: the exactly-once step. Bounded by tenant and time, so
    it reads little; an event comes with the same time however often it is delivered. Throws when the stage doesn't hold
    as many events as parameter `count` says, or one that doesn't fit."""
    return _NEW.format(
        table=table,
        stage=TABLE,
        all_fit=_ALL_FIT,
        columns=", ".join(f"`{name}`" for name in (*_FIELDS, *POSITION)),
        values=", ".join(_time(f"`{name}`") if is_time(name) else f"`{name}`" for name in (*_FIELDS, *POSITION)),
        first=_time("min(event_time)"),
        last=_time("max(event_time)"),
    )


def misfits_sql() -> str:
    """Of each event that doesn't fit, the first field that is to blame."""
    names = ", ".join(f"NOT ({check}), '{name}'" for name, check in _CHECKS.items())
    return f"SELECT multiIf({names}, '') AS field FROM {TABLE} WHERE field != ''"  # noqa: S608 - our own words


def is_time(name: str) -> bool:
    return name == "event_time" or name.endswith("_at")


def _time(expression: str) -> str:
    return f"fromUnixTimestamp64Milli({expression}, 'UTC')"


def _column(name: str, field: FieldInfo) -> str:
    default = f" DEFAULT '{field.default}'" if isinstance(field.default, str | int) and field.default else ""
    return f"`{name}` {_type(field.annotation)}{default}"


def _type(annotation: Any) -> str:
    parts = get_args(annotation)
    if NoneType in parts:
        return f"Nullable({_type(next(part for part in parts if part is not NoneType))})"
    return _SQL_TYPES.get(get_origin(annotation) or annotation, "String")


def _closed_set(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [member.value for member in annotation]
    return []


def _check(name: str, field: FieldInfo) -> str:
    """What a row must fulfil: an identity, known values, sane times, counts that fit, text that is text."""
    if name in _IDENTITY:
        return f"notEmpty(`{name}`) AND isValidUTF8(`{name}`)"
    if known := _closed_set(field.annotation):
        return f"`{name}` IN ({', '.join(repr(value) for value in known)})"
    if is_time(name):
        return f"ifNull(`{name}`, {_EPOCH_2020}) BETWEEN {_EPOCH_2020} AND {_EPOCH_2200}"
    if limit := _LARGEST.get(name.rpartition("_")[2]):
        return f"`{name}` BETWEEN 0 AND {limit}"
    return f"isValidUTF8(`{name}`)" if field.annotation is str else ""


_CHECKS = {name: check for name, field in _FIELDS.items() if (check := _check(name, field))}
# Asked in one, since constraints of the table take a third of the time that it takes to stage a block.
_ALL_FIT = f"countIf(NOT ({' AND '.join(f'({check})' for check in _CHECKS.values())})) = 0"
