"""From places in Kafka and rows in the ledger to faults with the request's name."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord

from analytics.reconcile.claims import Verdict
from analytics.reconcile.facts import Facts, parse_event
from analytics.reconcile.kafka_log import KafkaLog, Snapshot
from analytics.reconcile.ledger_rows import LedgerRows
from analytics.reconcile.report import Fault, Finding
from analytics.reconcile.usage_log import ranges
from contracts.kafka import header
from contracts.outcomes import Outcome

MOST_NAMED = 1000  # of each fault; the others are counted
Place = tuple[int, int]  # partition, offset


@dataclass(slots=True)
class Named:
    """All are counted; only so many are kept."""

    counts: Counter[Fault] = field(default_factory=Counter)
    named: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding, most: int = MOST_NAMED) -> None:
        self.counts[finding.fault] += 1
        if self.counts[finding.fault] <= most:
            self.named.append(finding)


@dataclass(frozen=True, slots=True)
class Namer:
    """`since`: UTC ms from which on a claim's later records are read."""

    log: KafkaLog
    rows: LedgerRows
    facts: Facts
    snapshot: Snapshot
    since: int

    async def claims(self) -> Named:
        """The claims that are not as they should be. An outcome that was turned away unrun, and came second to another
        claim of its key, leaves no waste event: it is recognised by the key's other bill."""
        found = Named()
        for number, log in sorted(self.facts.claims.items()):
            faults = list(log.faults())
            keys = await self._keys_of(number, [offset for offset, _, _ in faults[:MOST_NAMED]])
            rejected = [
                keys[o] for o, v, out in faults if v is Verdict.UNBILLED and out is Outcome.REJECTED and o in keys
            ]
            others = await asyncio.to_thread(self.rows.billed, rejected) if rejected else set()
            for offset, verdict, outcome in faults:
                key = keys.get(offset, ("", ""))
                if verdict is Verdict.UNBILLED and outcome is Outcome.REJECTED and key in others:
                    log.excuse(offset)
                else:
                    found.add(Finding(Fault(verdict), f"{self.log.topics.requests} {number}.{offset}", *key))
        return found

    async def dropped(self, dead_letters: Iterable[ConsumerRecord]) -> Named:
        """Requests that claimed nothing are duplicates of a claimed key, or were refused; any other was dropped."""
        topic = self.log.topics.requests
        refused = {origin(record, topic) for record in dead_letters}
        left = {place: key for place, key in self.facts.unclaimed.items() if place not in refused}
        keys = set(left.values())
        if keys:
            billed = await asyncio.to_thread(self.rows.billed, [split(key) for key in keys])
            keys = await self._without_claim({key for key in keys if split(key) not in billed})
        found = Named()
        for (partition, offset), key in left.items():
            if key in keys:
                found.add(Finding(Fault.DROPPED, f"{topic} {partition}.{offset}", *split(key)))
        return found

    async def differing(self) -> Named:
        offsets = {number: sorted(set(log.differing)) for number, log in self.facts.usage.items()}
        return await self._at(Fault.DIFFERS, offsets)

    async def doubled(self) -> Named:
        """Events of the window that have several rows, at one offset or at two; and offsets that have several."""
        found, places = Named(), set[str]()
        events = await asyncio.to_thread(self.rows.doubled, *self.facts.times) if self.facts.times else []
        for event in events:
            if any(self._in_window(place) for place in event.places):
                found.add(Finding(Fault.DOUBLED, ", ".join(event.places), event.tenant, event.key))
                places.update(event.places)
        topic = self.log.topics.usage
        rest = {
            number: [offset for offset, _ in log.doubled() if f"{topic} {number}.{offset}" not in places]
            for number, log in self.facts.usage.items()
        }
        for finding in (await self._at(Fault.DOUBLED, rest)).named:
            found.add(finding)
        return found

    async def strays(self) -> Named:
        """Rows of the window's time that came from nowhere: another topic, or beyond the end."""
        found = Named()
        if not self.facts.times:
            return found
        topic = self.log.topics.usage
        partitions = self.snapshot.partitions(topic)
        ends = {tp.partition: self.snapshot.ends[tp] for tp in partitions}
        rows = await asyncio.to_thread(self.rows.strays, *self.facts.times, ends)
        now = {tp.partition: end for tp, end in (await self.log.ends(partitions)).items()} if rows else {}
        for row in rows:
            if row.topic != topic or row.offset >= now.get(row.partition, 0):
                found.add(Finding(Fault.FOREIGN, str(row), row.tenant, row.key))
        return found

    async def _at(self, fault: Fault, offsets: Mapping[int, Sequence[int]]) -> Named:
        """Something is wrong with these offsets of `usage`: whose they are, their records say."""
        topic, found = self.log.topics.usage, Named()
        names: dict[Place, tuple[str, str]] = {}
        async for batch in self.log.places(topic, {n: ranges(some[:MOST_NAMED]) for n, some in offsets.items()}):
            for record in batch:
                if event := parse_event(record):
                    names[record.partition, record.offset] = (event["tenant"], event["idempotency_key"])
        for number, some in offsets.items():
            for offset in some:
                found.add(Finding(fault, f"{topic} {number}.{offset}", *names.get((number, offset), ("", ""))))
        return found

    async def _keys_of(self, partition: int, offsets: list[int]) -> dict[int, tuple[str, str]]:
        """(tenant, key) of records on `requests`."""
        found: dict[int, tuple[str, str]] = {}
        async for batch in self.log.places(self.log.topics.requests, {partition: ranges(offsets)}):
            found |= {record.offset: split(record.key) for record in batch}
        return found

    async def _without_claim(self, keys: set[bytes]) -> set[bytes]:
        """Those that nobody has claimed: looked for in the window first, then in all that Kafka holds."""
        left = set(keys)
        partitions = self.snapshot.partitions(self.log.topics.admitted)
        near = await self.log.at(self.since, partitions, self.snapshot.ends)
        first = await self.log.beginnings(partitions)
        for spans in (near, {tp: range(first[tp], near[tp].start) for tp in partitions}):
            if left:
                await self.log.read(spans, lambda record: left.discard(header(record.headers, "request-key") or b""))
        return left

    def _in_window(self, place: str) -> bool:
        topic, _, position = place.rpartition(" ")
        partition, _, offset = position.partition(".")
        log = self.facts.usage.get(int(partition))
        return topic == self.log.topics.usage and log is not None and log.first <= int(offset) < log.end


def split(record_key: bytes | None) -> tuple[str, str]:
    tenant, _, key = (record_key or b"").decode("utf-8", "replace").partition(":")
    return tenant, key


def origin(dead_letter: ConsumerRecord, topic: str) -> Place | None:
    """Where a dead letter came from, if from this topic."""
    if header(dead_letter.headers, "dead-letter-topic") != topic.encode():
        return None
    partition, offset = (header(dead_letter.headers, f"dead-letter-{name}") or b"" for name in ("partition", "offset"))
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else None
