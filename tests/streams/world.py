"""A whole Millrace in memory for the decisions: topics, tables with a changelog, crashes at any moment, one clock.

A stage takes a batch, its state and its outputs are then in flight, and only when all have landed is the batch
acknowledged. A crash loses any outputs in flight, any changelog batches in flight from some point on, and everything
that wasn't committed comes again.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from contracts.catalogue import Catalogue, load_catalogue
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.tokenizer import Tokenizers
from contracts.topics import Topics
from streams.entry import accepted_at
from streams.expiry import Behind
from streams.limits.policy import default_policy
from streams.partition import partition_of
from streams.policy.surroundings import Surroundings
from streams.records import Output, Record
from streams.stage import Batch, House, Stage
from streams.stages import stages
from streams.stand_in import StandIn
from streams.state import OWN
from streams.store import Aged

START = 1_790_000_000_000  # UTC ms
Writes = dict[bytes, bytes | None]


class Defect(Exception):  # noqa: N818
    """What a test has planted in a decision."""


class MemoryState:
    """One partition of a table, with what the running batch has put."""

    def __init__(self, entries: dict[bytes, bytes] | None = None) -> None:
        self.entries = dict(entries or {})
        self.writes: Writes = {}

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        self.writes[key] = value
        if value is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = value

    def scan(self, start: bytes, stop: bytes, most: int) -> list[tuple[bytes, bytes]]:
        return [(key, self.entries[key]) for key in sorted(self.entries) if start <= key < stop][:most]

    def aged(self, before: int, most: int) -> list[Aged]:
        listed = (Aged(accepted_at(value), key) for key, value in self.entries.items() if key[:1] != OWN)
        return sorted(aged for aged in listed if aged.born < before)[:most]

    def forget(self, aged: Aged) -> None:
        """It is found by its entry."""


class Produced(NamedTuple):
    """What a topic holds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    order: int  # among everything that was ever produced


@dataclass
class InFlight:
    """A batch that isn't acknowledged yet."""

    stage: Stage
    partition: int
    next_offset: int
    outputs: list[Output]
    writes: Writes


@dataclass
class World:
    settings: Settings
    now: int = START
    logs: dict[tuple[str, int], list[Produced]] = field(default_factory=lambda: defaultdict(list))
    tables: dict[tuple[str, int], MemoryState] = field(default_factory=lambda: defaultdict(MemoryState))
    changelog: dict[tuple[str, int], list[Writes]] = field(default_factory=lambda: defaultdict(list))
    landed: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    positions: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    committed: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    in_flight: list[InFlight] = field(default_factory=list)
    produced: int = 0
    catalogue: Catalogue = field(default_factory=load_catalogue)
    tokenizers: Tokenizers = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.topics = Topics.of(self.settings)
        self.policy = default_policy(self.settings)
        self.surroundings = Surroundings(self.settings)
        self.house = House(
            self.settings,
            self.topics,
            self.catalogue,
            load_prices(),
            self.policy,
            surroundings=self.surroundings,
            tokenizers=self.tokenizers,
        )
        self.stages = {stage.name: stage for stage in stages(self.house)}

    def partitions(self, topic: str) -> int:
        known = {stage.source: stage.partitions for stage in self.stages.values()}
        return known.get(topic, 1)

    def produce(self, output: Output) -> Produced:
        partition = output.partition
        if partition is None:
            partition = partition_of(output.key or b"", self.partitions(output.topic))
        log = self.logs[output.topic, partition]
        self.produced += 1
        place = (output.topic, partition, len(log), self.now)
        produced = Produced(*place, output.key, output.value, list(output.headers), self.produced)
        log.append(produced)
        return produced

    def records(self, topic: str) -> list[Produced]:
        """In the order in which they were produced."""
        found = [record for (name, _), log in list(self.logs.items()) if name == topic for record in log]
        return sorted(found, key=lambda record: record.order)

    def waiting(self, stage: Stage, partition: int) -> int:
        return len(self.logs[stage.source, partition]) - self.positions[stage.source, partition]

    def take(self, name: str, partition: int, count: int) -> InFlight | None:
        """One batch: decided, its state and outputs in flight. None when there is nothing, or one is in flight."""
        stage = self.stages[name]
        place = (stage.source, partition)
        if not self.waiting(stage, partition) or any(batch.stage is stage for batch in self.in_flight):
            return None
        start = self.positions[place]
        taken = self.logs[place][start : start + count]
        self.positions[place] = start + len(taken)
        table = self.tables[stage.table, partition]
        table.writes = {}
        batch = stage.open(table)
        outputs = [output for record in taken for output in self._one(stage, batch, record)]
        batch.close()
        if stage.sweep:
            stage.sweep.remove(table, self._behind(partition), len(taken) * 4)
        self.changelog[stage.table, partition].append(table.writes)
        flying = InFlight(stage, partition, start + len(taken), outputs, table.writes)
        self.in_flight.append(flying)
        return flying

    def _one(self, stage: Stage, batch: Batch, produced: Produced) -> list[Output]:
        record = Record(*produced[:-1], seen_at=self.now)
        try:
            return batch.decide(record)
        except Defect:
            return StandIn(self.topics, stage.name, stage.source).outputs(record)

    def _behind(self, partition: int) -> Behind:
        """What is committed of the requests table's sources, and from when that is."""
        known: list[int] = []
        for topic in (self.topics.requests, self.topics.completions):
            committed = self.committed[topic, partition]
            done = self.logs[topic, partition][:committed]
            known += [committed, max((record.timestamp for record in done), default=0)]
        return Behind(*known)

    def land(self, batch: InFlight) -> None:
        """Everything of a batch is in Kafka, and it is acknowledged."""
        for output in batch.outputs:
            self.produce(output)
        place = (batch.stage.table, batch.partition)
        self.landed[place] = max(self.landed[place], self._changelog_place(batch) + 1)
        self.committed[batch.stage.source, batch.partition] = batch.next_offset
        self.in_flight.remove(batch)

    def crash(self, lands: Callable[[], bool]) -> None:
        """kill -9: `lands` says of each thing in flight whether it made it into Kafka."""
        for place, batches in self.changelog.items():
            while self.landed[place] < len(batches) and lands():
                self.landed[place] += 1
        for batch in self.in_flight:
            durable = self._changelog_place(batch) < self.landed[batch.stage.table, batch.partition]
            for output in batch.outputs:
                if (durable or not batch.stage.state_first) and lands():
                    self.produce(output)
        self.in_flight.clear()
        for place, batches in self.changelog.items():
            del batches[self.landed[place] :]
            self.tables[place] = MemoryState(_replayed(batches))
        for place in list(self.positions):
            self.positions[place] = self.committed[place]

    def settle_down(self) -> None:
        """Everything that is under way comes to its end, without crashes."""
        for batch in list(self.in_flight):
            self.land(batch)
        moving = True
        while moving:
            moving = False
            for stage in self.stages.values():
                for partition in range(stage.partitions):
                    while flying := self.take(stage.name, partition, 7):
                        self.land(flying)
                        moving = True

    def _changelog_place(self, batch: InFlight) -> int:
        log = self.changelog[batch.stage.table, batch.partition]
        return next(index for index, writes in enumerate(log) if writes is batch.writes)


def _replayed(batches: list[Writes]) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    for writes in batches:
        for key, value in writes.items():
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
    return entries
