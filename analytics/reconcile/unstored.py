"""Offsets of `usage` without a row: which are known duplicates, which the ledger refused, and which are missing."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import ConsumerRecord

from analytics.reconcile.facts import Event, Facts, parse_event, sums_of
from analytics.reconcile.kafka_log import KafkaLog
from analytics.reconcile.ledger_rows import LedgerRows, digest_of
from analytics.reconcile.naming import Named, origin
from analytics.reconcile.report import Fault, Finding
from analytics.reconcile.usage_log import ranges


class _Unstored(NamedTuple):
    partition: int
    offset: int
    event: Event


class Unstored:
    """Reads those offsets once more. A crash may publish an event again at a later offset: its row stands for both."""

    def __init__(self, log: KafkaLog, rows: LedgerRows, facts: Facts) -> None:
        self._log, self._rows, self._facts = log, rows, facts
        self._seen: dict[str, int] = {}  # digests by event id of those that are missing
        self._found = Named()
        self.duplicates: Counter[int] = Counter()  # by partition

    async def resolve(self, dead_letters: Iterable[ConsumerRecord]) -> None:
        refused = {place for record in dead_letters if (place := origin(record, self._log.topics.usage))}
        wanted = {number: ranges(log.missing()) for number, log in self._facts.usage.items()}
        async for batch in self._log.places(self._log.topics.usage, wanted):
            unstored = [_Unstored(r.partition, r.offset, event) for r in batch if (event := parse_event(r))]
            if unstored:
                times = [item.event["event_time"] for item in unstored]
                ids = [item.event["event_id"] for item in unstored]
                known = await asyncio.to_thread(self._rows.known, ids, min(times), max(times))
                for item in unstored:
                    self._judge(item, known, refused)

    def findings(self) -> Named:
        return self._found

    def _judge(self, item: _Unstored, known: dict[str, int], refused: set[tuple[int, int]]) -> None:
        event, digest = item.event, digest_of(item.event)
        log = self._facts.usage[item.partition]
        standing = known.get(event["event_id"], self._seen.get(event["event_id"]))
        if standing is not None:
            log.excuse(item.offset)
            self.duplicates[item.partition] += 1
            self._facts.sums[event["tenant"]].add(sums_of(event), -1)
            if standing != digest:
                self._note(Fault.DIFFERS, item)
            return
        self._seen[event["event_id"]] = digest
        if (item.partition, item.offset) in refused:
            log.excuse(item.offset)
            self._note(Fault.REFUSED, item)
        else:
            self._note(Fault.MISSING, item)

    def _note(self, fault: Fault, item: _Unstored) -> None:
        place = f"{self._log.topics.usage} {item.partition}.{item.offset}"
        self._found.add(Finding(fault, place, item.event["tenant"], item.event["idempotency_key"]))
