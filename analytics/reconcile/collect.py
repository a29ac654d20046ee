"""Reconcile's one run: read what Kafka holds of the window, hold it against the ledger, name what is off."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

from analytics.clickhouse import Client
from analytics.reconcile.claims import ClaimLog
from analytics.reconcile.facts import Facts
from analytics.reconcile.kafka_log import KafkaLog, Snapshot, Spans, kafka_log
from analytics.reconcile.ledger_rows import LedgerRows
from analytics.reconcile.naming import Namer
from analytics.reconcile.report import Claimed, Fault, Finding, Report, Stored, Sums, claimed
from analytics.reconcile.unstored import Unstored
from analytics.reconcile.usage_log import UsageLog, ranges
from contracts.settings import Settings

CLOCK_SLACK_MS = 60_000  # machines' clocks may differ by this: what follows a claim is read from so much before it


@dataclass(frozen=True, slots=True)
class Window:
    """By the records' Kafka timestamps, UTC ms, half-open."""

    since: int
    until: int


async def reconcile(settings: Settings, client: Client, window: Window) -> Report:
    """`client` reads the ledger. Raises StackError when Kafka doesn't answer, ClickHouseError when that doesn't."""
    started = time.monotonic()
    async with kafka_log(settings) as log:
        run = await Reconciliation.begin(log, LedgerRows(client, log.topics.usage), window)
        await run.read_kafka()
        await run.read_ledger()
        await run.name_faults()
        return run.report(time.monotonic() - started)


@dataclass(slots=True)
class Reconciliation:
    """In order: begin, read_kafka, read_ledger, name_faults, report."""

    window: Window
    log: KafkaLog
    rows: LedgerRows
    snapshot: Snapshot
    asked: Spans  # the window on `requests`
    told: Spans  # the window on `usage`, as far as the sink has committed
    on_the_way: Mapping[int, int]  # records of the window on `usage` after that
    facts: Facts
    trimmed: bool
    unstored: Unstored = field(init=False)
    faults: Counter[Fault] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    sums: dict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))  # of the ledger, by tenant

    @classmethod
    async def begin(cls, log: KafkaLog, rows: LedgerRows, window: Window) -> "Reconciliation":
        snapshot, topics = await log.snapshot(), log.topics
        asked = await _between(log, snapshot, [topics.requests], window.since, window.until)
        usage = await _between(log, snapshot, [topics.usage], window.since, window.until)
        sink = topics.sink_group
        told = {tp: range(s.start, max(s.start, min(s.stop, snapshot.passed(sink, tp)))) for tp, s in usage.items()}
        facts = Facts(
            topics,
            {tp.partition: ClaimLog(span.start, span.stop) for tp, span in asked.items()},
            {tp.partition: UsageLog(span.start, span.stop) for tp, span in told.items()},
            _passed(log, snapshot),
        )
        late = {tp.partition: span.stop - told[tp].stop for tp, span in usage.items()}
        trimmed = await log.trimmed(asked | usage)
        return cls(window, log, rows, snapshot, asked, told, late, facts, trimmed)

    async def read_kafka(self) -> None:
        """As far as the window's claims have mostly come to their ends; then as far as it takes, and before anything is
        called lost, from the first record on: some machine's clock may be off."""
        topics, since = self.log.topics, self.window.since - CLOCK_SLACK_MS
        names = [topics.admitted, topics.completions, topics.usage]
        near = await _between(self.log, self.snapshot, names, since, self.window.until + CLOCK_SLACK_MS)
        await self.log.read(near, self.facts.take)
        if self.facts.pending():
            far = {tp: range(span.stop, self.snapshot.ends[tp]) for tp, span in near.items()}
            await self.log.read(far, self.facts.take)
        if self.facts.pending():
            work = await _between(self.log, self.snapshot, _work_topics(self.log, self.snapshot), since)
            await self.log.read(work, self.facts.take)
            near |= work
        if self.facts.off():
            first = await self.log.beginnings(list(near))
            early = {tp: range(first[tp], span.start) for tp, span in near.items()}
            await self.log.read(early, self.facts.take)
        await self.log.read(self.asked, self.facts.take)

    async def read_ledger(self) -> None:
        for tp, span in self.told.items():
            log = self.facts.usage[tp.partition]
            await asyncio.to_thread(_hold_against, log, self.rows, tp.partition)
            for tenant, sums in (await asyncio.to_thread(self.rows.sums, tp.partition, span.start, span.stop)).items():
                self.sums[tenant].add(sums)
        self.unstored = Unstored(self.log, self.rows, self.facts)
        await self.unstored.resolve(await self._dead_letters())

    async def name_faults(self) -> None:
        namer = Namer(self.log, self.rows, self.facts, self.snapshot, self.window.since - CLOCK_SLACK_MS)
        for found in (
            await namer.claims(),
            await namer.dropped(await self._dead_letters()),
            self.unstored.findings(),
            await namer.differing(),
            await namer.doubled(),
            await namer.strays(),
        ):
            self.faults.update(found.counts)
            self.findings += found.named

    def report(self, seconds: float) -> Report:
        return Report(
            since=self.window.since,
            until=self.window.until,
            tenants=self._tenants(),
            partitions=[claimed(str(number), log.counts()) for number, log in sorted(self.facts.claims.items())],
            usage=[self._stored(tp) for tp in sorted(self.told)],
            kafka=dict(self.facts.sums),
            ledger=dict(self.sums),
            faults=dict(self.faults),
            findings=self.findings,
            records_read=self.log.records_read,
            seconds=seconds,
            notes=self._notes(),
        )

    def _tenants(self) -> list[Claimed]:
        counts: dict[int, Counter[tuple[int, object, object]]] = defaultdict(Counter)
        for log in self.facts.claims.values():
            for fact, count in log.counts().items():
                counts[fact[0]][fact] += count
        names = self.facts.tenants
        return sorted((claimed(names[n], found) for n, found in counts.items()), key=lambda line: line.name)  # type: ignore[arg-type]

    def _stored(self, tp: TopicPartition) -> Stored:
        log = self.facts.usage[tp.partition]
        return Stored(
            partition=tp.partition,
            first=log.first,
            end=log.end,
            records=log.records,
            rows=log.stored,
            duplicates=self.unstored.duplicates[tp.partition],
            on_the_way=self.on_the_way[tp.partition],
            missing=ranges(log.missing()),
            doubled=[offset for offset, _ in log.doubled()],
        )

    def _notes(self) -> list[str]:
        notes = []
        if self.trimmed:
            notes.append("Kafka no longer holds all of the window: what retention has removed is not examined.")
        if self.facts.undeduped:
            notes.append(f"{self.facts.undeduped:,} requests of the window have not been read by dedupe yet.")
        if self.facts.unreadable:
            notes.append(f"{self.facts.unreadable:,} records on usage are no usage events (see the dead letters).")
        return notes

    async def _dead_letters(self) -> Iterable[ConsumerRecord]:
        """Of the window and later; only where something is missing."""
        if not self.facts.unclaimed and not any(any(True for _ in log.missing()) for log in self.facts.usage.values()):
            return []
        found: list[ConsumerRecord] = []
        since = self.window.since - CLOCK_SLACK_MS
        await self.log.read(
            await _between(self.log, self.snapshot, [self.log.topics.dead_letters], since), found.append
        )
        return found


async def _between(
    log: KafkaLog, snapshot: Snapshot, topics: Iterable[str], since: int, until: int | None = None
) -> Spans:
    """Offsets of records from `since` up to `until`, or to the end."""
    partitions = [tp for topic in topics for tp in snapshot.partitions(topic)]
    starts = await log.at(since, partitions, snapshot.ends)
    if until is None:
        return starts
    stops = await log.at(until, partitions, snapshot.ends)
    return {tp: range(starts[tp].start, max(starts[tp].start, stops[tp].start)) for tp in partitions}


def _passed(log: KafkaLog, snapshot: Snapshot) -> dict[TopicPartition, int]:
    """How far the stage that makes claims, work or outcomes of a partition's records has committed."""
    streams = log.topics.streams_app
    passed = {tp: snapshot.passed(streams, tp) for tp in snapshot.ends}
    work = (tp for topic in _work_topics(log, snapshot) for tp in snapshot.partitions(topic))
    return passed | {tp: snapshot.passed(log.worker_group(tp.topic), tp) for tp in work}


def _work_topics(log: KafkaLog, snapshot: Snapshot) -> list[str]:
    return sorted({tp.topic for tp in snapshot.ends if tp.topic.startswith(f"{log.topics.prefix}work.")})


def _hold_against(log: UsageLog, rows: LedgerRows, partition: int) -> None:
    for offset, digest in rows.rows(partition, log.first, log.end):
        log.row(offset, digest)
