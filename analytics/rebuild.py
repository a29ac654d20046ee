"""Rebuild: the whole ledger once more from Kafka's first offset, into a table beside it, to compare and to swap.

Rows older than what Kafka still holds are taken over as they are. `usage_before` keeps the old table after a swap.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import ConsumerRecord

from analytics.clickhouse import Client
from analytics.forget import forget_again
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reconcile.kafka_log import KafkaLog, Spans, kafka_log
from analytics.reconcile.ledger_rows import DIGEST
from analytics.reconcile.report import Sums
from contracts.settings import Settings
from contracts.topics import Topics

REBUILT, BEFORE = "usage_rebuilt", "usage_before"
_BOUND = "transform(partition, {partitions:Array(UInt16)}, {offsets:Array(UInt64)}, toUInt64(0))"
_OLDER = f"""
INSERT INTO {REBUILT} SELECT * FROM usage WHERE topic = {{topic:String}} AND offset < {_BOUND}
LIMIT 1 BY event_id
"""
_NEWER = f"""
INSERT INTO {REBUILT} SELECT * FROM usage
WHERE topic = {{topic:String}} AND offset >= {_BOUND} AND event_id NOT IN (SELECT event_id FROM {REBUILT})
LIMIT 1 BY event_id
"""
_SUMS = f"""
SELECT
    tenant, count(), countIf(kind = 'waste'),
    sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(cost_nano), sum({DIGEST})
FROM {{table:Identifier}}
WHERE topic != {{topic:String}} OR offset < {_BOUND}
GROUP BY tenant
"""
T = TypeVar("T")
Bounds = Mapping[int, int]  # offsets by partition of `usage`
Progress = Callable[[int], None]  # events read so far


@dataclass(frozen=True, slots=True)
class Side:
    """One tenant's rows: their sums, and one number that is the same for the same rows."""

    sums: Sums
    checksum: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`ends`: what lies before is in the new table, by partition. `usage` and `rebuilt` are by tenant."""

    read: int
    kept: int  # rows older than Kafka's first offset
    ends: dict[int, int]
    usage: dict[str, Side] = field(default_factory=dict)
    rebuilt: dict[str, Side] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # <partition>.<offset>: reason

    @property
    def unequal(self) -> list[str]:
        """Tenants whose rows are not the same in both tables."""
        names = sorted({*self.usage, *self.rebuilt})
        return [name for name in names if self.usage.get(name) != self.rebuilt.get(name)]


async def rebuild(settings: Settings, progress: Progress | None = None) -> Rebuilt:
    """As far as the sink has committed; the sink goes on meanwhile. Raises StackError, ClickHouseError."""
    with ThreadPoolExecutor(1, "rebuild") as executor:
        work = _Rebuild(settings, executor, await _in(executor, Ledger.open, settings))
        try:
            async with kafka_log(settings) as log:
                return await work.run(log, progress or (lambda _: None))
        finally:
            await _in(executor, work.ledger.close)


def swap(client: Client, settings: Settings, ends: Bounds) -> int:
    """Blocking. What came into `usage` since the rebuild is taken over, then the tables change places. Nobody may write
    to `usage` meanwhile. Returns how many rows came since. Raises ClickHouseError."""
    before = _count(client)
    client.command(_NEWER, _parameters(settings, ends))
    newer = _count(client) - before
    client.command(f"DROP TABLE IF EXISTS {BEFORE} SYNC")
    client.command(f"EXCHANGE TABLES usage AND {REBUILT}")
    client.command(f"RENAME TABLE {REBUILT} TO {BEFORE}")
    return newer


@dataclass(slots=True)
class _Rebuild:
    settings: Settings
    executor: ThreadPoolExecutor
    ledger: Ledger

    async def run(self, log: KafkaLog, progress: Progress) -> Rebuilt:
        snapshot, topics = await log.snapshot(), log.topics
        partitions = snapshot.partitions(topics.usage)
        first = await log.beginnings(partitions)
        spans = {tp: range(first[tp], max(first[tp], snapshot.passed(topics.sink_group, tp))) for tp in partitions}
        kept = await self._in(self._begin, {tp.partition: span.start for tp, span in spans.items()})
        read, refused = 0, list[str]()
        async for block in self._blocks(log, spans):
            found = await self._in(take_in, self.ledger, block)
            refused += [f"{item.record.partition}.{item.record.offset}: {item.reason}" for item in found]
            read += len(block)
            progress(read)
        await self._in(forget_again, self.ledger.client, REBUILT)
        ends = {tp.partition: span.stop for tp, span in spans.items()}
        old, new = await self._in(self._side, "usage", ends), await self._in(self._side, REBUILT, ends)
        return Rebuilt(read, kept, ends, old, new, refused)

    async def _blocks(self, log: KafkaLog, spans: Spans) -> AsyncIterator[list[ConsumerRecord]]:
        """As large as the sink's: small ones cost much more."""
        block: list[ConsumerRecord] = []
        async for batch in log.batches(spans):
            block += batch
            if len(block) >= self.settings.sink_block_rows:
                yield block
                block = []
        if block:
            yield block

    def _begin(self, first: Bounds) -> int:
        """An empty table like `usage`, with the rows that Kafka no longer holds. Returns how many those are."""
        client = self.ledger.client
        client.command(f"DROP TABLE IF EXISTS {REBUILT} SYNC")
        client.command(f"CREATE TABLE {REBUILT} AS usage")
        self.ledger.turn_to(REBUILT)
        client.command(_OLDER, _parameters(self.settings, first))
        return _count(client)

    def _side(self, table: str, ends: Bounds) -> dict[str, Side]:
        parameters = _parameters(self.settings, ends) | {"table": table}
        rows = self.ledger.client.query(_SUMS, parameters=parameters).result_rows
        return {row[0]: Side(Sums(*row[1:-1]), row[-1]) for row in rows}

    async def _in(self, function: Callable[..., T], *args: Any) -> T:
        return await _in(self.executor, function, *args)


def _count(client: Client) -> int:
    return int(client.query(f"SELECT count() FROM {REBUILT}").result_rows[0][0])


def _parameters(settings: Settings, bounds: Bounds) -> dict[str, Any]:
    return {"topic": Topics.of(settings).usage, "partitions": list(bounds), "offsets": list(bounds.values())}


async def _in(executor: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, function, *args)
