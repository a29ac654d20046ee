"""The ledger's writing side: a block of events goes in whole, each event once, however often it is delivered.

Stage the block, insert what the ledger doesn't have yet, and only then may its offsets be committed to Kafka. Blocking.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from clickhouse_connect.driver.exceptions import DatabaseError

from analytics import stage
from analytics.clickhouse import Client, connect
from analytics.handover import ByFile, ByHttp, Handover
from analytics.migrate import migrate
from analytics.retention import apply_retention
from analytics.soundness import NewParts
from contracts.settings import Settings

# Strict JSON: a number is no string, null is no default. One thread, since the events come in small rows and the
# machine has other work; no limit on the months in one block, or a stray timestamp would hold up the ledger.
_OPTIONS = {
    "session_timeout": 3600,  # seconds that a server keeps the stage while nothing comes; then it is made again
    "input_format_null_as_default": 0,
    "input_format_json_read_numbers_as_strings": 0,
    "input_format_json_read_bools_as_numbers": 0,
    "input_format_json_read_bools_as_strings": 0,
    "input_format_json_read_arrays_as_strings": 0,
    "input_format_json_read_objects_as_strings": 0,
    "input_format_parallel_parsing": 0,
    "async_insert": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_partitions_per_insert_block": 0,
}

# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_DATA_ERRORS = frozenset({6, 25, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 131, 349, 467, 469})
_WRONG_COUNT = 395  # by throwIf


class RowsRefused(Exception):  # noqa: N818 - an answer, not a failure
    """Some event of the block doesn't fit the ledger; nothing of the block went in."""


@dataclass(slots=True)
class Ledger:
    """One per process that writes to a table, used from one thread."""

    client: Client
    is_embedded: bool = False  # then what the engine wrote is looked at
    table: str = field(default="usage", init=False)
    _handover: Handover = field(init=False)
    _parts: NewParts | None = field(default=None, init=False)
    _stage_ready: bool = field(default=False, init=False)  # it exists, and is empty

    def __post_init__(self) -> None:
        self._handover = ByFile(self.client) if self.is_embedded else ByHttp(self.client)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connects and brings the schema up to date. Raises StackError, ConfigError or ClickHouseError."""
        client = connect(settings, _OPTIONS)
        try:
            migrate(client, settings)
            apply_retention(client, settings)
            ledger = cls(client, is_embedded=not settings.clickhouse_url)
            ledger.turn_to("usage")
        except BaseException:
            client.close()
            raise
        return ledger

    def turn_to(self, table: str) -> None:
        """Writes go there from now on: to `usage`, or a table like it. Raises ClickHouseError."""
        self.table = table
        self._parts = NewParts(self.client, table) if self.is_embedded else None

    def insert(self, lines: Iterable[bytes], count: int) -> None:
        """`lines`: pieces of JSON lines, `count` usage events with topic, partition and offset. Afterwards each is in
        the ledger exactly once. Raises RowsRefused, ClickHouseError when the block must be tried again, or PartDamaged
        when it must be delivered to a new process."""
        if not self._stage_ready:
            self.client.command(stage.create_sql())
            self._empty_stage()
        self._stage_ready = False
        self._stage(lines)
        self._move(count)
        self.check()
        self._empty_stage()

    def check(self) -> None:
        """Whether what was written, and merged since, can be read. Raises PartDamaged or ClickHouseError."""
        if self._parts:
            self._parts.check()

    def close(self) -> None:
        self._handover.close()
        self.client.close()

    def _stage(self, lines: Iterable[bytes]) -> None:
        try:
            self._handover.insert(stage.TABLE, lines)
        except DatabaseError as error:
            if error.code in _DATA_ERRORS or isinstance(error.__cause__, UnicodeDecodeError):  # quotes what isn't UTF-8
                raise RowsRefused(_reason(str(error))) from error
            raise

    def _move(self, count: int) -> None:
        try:
            self.client.command(stage.insert_new_sql(self.table), {"count": count})
        except DatabaseError as error:
            if error.code == _WRONG_COUNT:
                raise RowsRefused(self._misfit()) from error
            raise

    def _misfit(self) -> str:
        fields = self.client.query(stage.misfits_sql()).result_rows
        return f"{fields[0][0]} doesn't fit" if fields else "a record held more than one event, or none"

    def _empty_stage(self) -> None:
        self.client.command(f"TRUNCATE TABLE {stage.TABLE}")
        self._stage_ready = True


def _reason(message: str) -> str:
    """ClickHouse's own words, without its exception class, table ids, the row and the stack."""
    text = message.partition("DB::Exception: ")[2].partition(": While executing")[0] or message
    return re.sub(r": \(at row \d+\)\s*", "", text).strip()
