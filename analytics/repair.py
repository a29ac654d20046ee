"""Repair: offsets of `usage` that are not in the ledger are read from Kafka again, and go in as the sink puts them in.

Only what the sink has committed is touched: the rest is still on its way, and one writer at a time has it in hand.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reconcile.kafka_log import kafka_log
from analytics.reconcile.usage_log import Offsets
from contracts.settings import Settings

MOST_OFFSETS = 100_000  # in one order


class Repaired(NamedTuple):
    read: int  # events that went through the ledger, which knows those that it has
    refused: list[str]  # <partition>.<offset>: reason


async def repair(
    settings: Settings, ledger: Ledger, executor: Executor, missing: Mapping[int, Sequence[Offsets]]
) -> Repaired:
    """`executor` is the one thread that writes to this ledger. Raises StackError, ClickHouseError."""
    read, refused = 0, list[str]()
    loop = asyncio.get_running_loop()
    async with kafka_log(settings) as log:
        snapshot, topic = await log.snapshot(), log.topics.usage
        passed = {tp.partition: snapshot.passed(log.topics.sink_group, tp) for tp in snapshot.partitions(topic)}
        wanted = {number: _below(spans, passed.get(number, 0)) for number, spans in missing.items()}
        async for batch in log.places(topic, wanted):
            if batch:
                found = await loop.run_in_executor(executor, take_in, ledger, batch)
                refused += [f"{item.record.partition}.{item.record.offset}: {item.reason}" for item in found]
                read += len(batch)
    return Repaired(read, refused)


def portions(missing: Mapping[int, Sequence[Offsets]], most: int = MOST_OFFSETS) -> Iterator[dict[int, list[Offsets]]]:
    """The same offsets in orders of at most so many."""
    portion: dict[int, list[Offsets]] = {}
    room = most
    for number, spans in missing.items():
        for span in spans:
            for first in range(span.first, span.last + 1, most):
                last = min(span.last, first + most - 1)
                if last - first + 1 > room:
                    yield portion
                    portion, room = {}, most
                portion.setdefault(number, []).append(Offsets(first, last))
                room -= last - first + 1
    if portion:
        yield portion


def _below(spans: Sequence[Offsets], end: int) -> list[Offsets]:
    return [Offsets(first, min(last, end - 1)) for first, last in spans if first < end]
