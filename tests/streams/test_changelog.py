"""Reading tables back from a real changelog, whoever wrote to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from contracts.clock import now_ms
from contracts.kafka import producer_options
from contracts.settings import Settings
from contracts.topics import REQUEST_TABLE, Topics
from streams.changelog import EPOCH, Changelog
from streams.errors import Fenced
from streams.outbox import Outbox, entered
from streams.reply_topics import ReplyTopics
from streams.store import Mark, Place, Store, Write
from streams.tables import Tables
from tests.support.audit import read_all

pytestmark = pytest.mark.broker
PLACE, OTHER = Place(REQUEST_TABLE, 0), Place(REQUEST_TABLE, 1)


class Owner:
    """A process that owns a partition and writes to its changelog."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, store: Store, changelog: Changelog) -> None:
        topics = Topics.of(settings)
        self.topic = topics.changelog(REQUEST_TABLE)
        self.outbox = Outbox(producer, {self.topic: 8}, topics.responses, ReplyTopics(producer.client), 1_000_000)
        self.store = store
        self.changelog = changelog
        self.tables = Tables(store, changelog, {REQUEST_TABLE})

    async def enter(self, writes: list[Write], epoch: int) -> tuple[int, int]:
        return await entered(await self.outbox.enter_changelog(self.topic, 0, writes, epoch))

    async def write(self, key: bytes, value: bytes | None) -> None:
        """As a batch does it."""
        partition = self.tables.partition(PLACE)
        partition.put(key, value)
        flight = partition.depart()
        assert flight is not None
        first, end = await self.enter(flight.writes, partition.epoch)
        await partition.land(flight, first, end, now_ms())


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        yield producer


@pytest.fixture
async def owner(settings: Settings, producer: AIOKafkaProducer, tmp_path: Path) -> AsyncIterator[Owner]:
    async with owning(settings, producer, tmp_path / "first") as owner:
        yield owner


@pytest.fixture
async def successor(settings: Settings, producer: AIOKafkaProducer, tmp_path: Path) -> AsyncIterator[Owner]:
    async with owning(settings, producer, tmp_path / "second") as owner:
        yield owner


class owning:  # noqa: N801
    def __init__(self, settings: Settings, producer: AIOKafkaProducer, folder: Path) -> None:
        self._store = Store(folder)
        self._changelog = Changelog(settings, self._store)
        self._owner = Owner(settings, producer, self._store, self._changelog)

    async def __aenter__(self) -> Owner:
        await self._changelog.__aenter__()
        return self._owner

    async def __aexit__(self, *_: object) -> None:
        await self._changelog.__aexit__(None, None, None)
        self._store.close()


async def test_a_batch_of_changes_is_one_batch_in_kafka(owner: Owner) -> None:
    """Kafka keeps or loses it as a whole: the meter's entries rely on that."""
    writes: list[Write] = [(b"k%d" % number, b"x" * 100) for number in range(2000)]
    batches = await owner.outbox.enter_changelog(owner.topic, 0, writes, 1)
    assert [batch.records for batch in batches] == [2000]
    assert await entered(batches) == (0, 2000)


async def test_what_is_too_large_for_one_batch_is_split_in_order(owner: Owner) -> None:
    writes: list[Write] = [(b"k%d" % number, b"x" * 400_000) for number in range(5)]
    batches = await owner.outbox.enter_changelog(owner.topic, 0, writes, 1)
    assert len(batches) > 1
    assert await entered(batches) == (0, 5)


async def test_a_successor_reads_what_was_written(owner: Owner, successor: Owner) -> None:
    await owner.tables.open([PLACE, OTHER], 1)
    for number in range(10):
        await owner.write(b"k%d" % (number % 4), b"%d" % number)
    await owner.write(b"k0", None)
    await successor.tables.open([PLACE, OTHER], 1)
    table = successor.tables.partition(PLACE)
    assert [table.get(b"k%d" % number) for number in range(4)] == [None, b"9", b"6", b"7"]
    assert table.epoch > owner.tables.partition(PLACE).epoch
    assert successor.store.mark(PLACE) is not None


async def test_what_is_on_disk_is_not_read_again(owner: Owner, successor: Owner) -> None:
    await owner.tables.open([PLACE], 1)
    await owner.write(b"a", b"1")
    await successor.tables.open([PLACE], 1)
    await successor.write(b"b", b"2")
    owner.store.write(PLACE, [(b"a", b"mine")], Mark(1, 0, now_ms()))
    await owner.tables.open([PLACE], 2)
    table = owner.tables.partition(PLACE)
    assert (table.get(b"a"), table.get(b"b")) == (b"mine", b"2")


async def test_a_disk_that_knows_more_than_the_log_is_read_again(owner: Owner) -> None:
    owner.store.write(PLACE, [(b"a", b"of another cluster")], Mark(10_000, 3, 2**42))
    await owner.tables.open([PLACE], 1)
    assert owner.tables.partition(PLACE).get(b"a") is None


async def test_a_former_owner_that_wakes_up_is_fenced_and_its_writes_count_for_nothing(
    owner: Owner, successor: Owner, settings: Settings, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    await owner.tables.open([PLACE], 1)
    await owner.write(b"a", b"old")
    await successor.tables.open([PLACE], 1)
    await successor.write(b"a", b"new")
    with pytest.raises(Fenced):
        await owner.write(b"a", b"stale")
    assert owner.store.get(PLACE, b"a") == b"old"
    await successor.write(b"b", b"newer")
    await successor.write(b"b", b"newer")  # and what was covered
    async with owning(settings, producer, tmp_path / "third") as third:
        await third.tables.open([PLACE], 1)
        table = third.tables.partition(PLACE)
        assert (table.get(b"a"), table.get(b"b")) == (b"new", b"newer")
        last = {record.key: record.value for record in await read_all(settings.kafka_bootstrap_servers, owner.topic)}
        assert last == {b"a": b"new", b"b": b"newer"}  # what compaction will keep


async def test_whoever_takes_over_writes_again_what_a_former_owner_has_covered(
    owner: Owner, successor: Owner, settings: Settings
) -> None:
    await successor.enter([(b"a", b"new"), (b"b", b"newer")], epoch=7)
    await owner.enter([(b"a", b"stale"), (b"c", b"stale")], epoch=5)
    await successor.tables.open([PLACE], 1)
    await successor.write(b"d", b"1")
    assert successor.tables.partition(PLACE).get(b"a") == b"new"
    last = {record.key: record.value for record in await read_all(settings.kafka_bootstrap_servers, owner.topic)}
    assert last == {b"a": b"new", b"b": b"newer", b"c": None, b"d": b"1"}


async def test_epochs_never_fall(owner: Owner, successor: Owner) -> None:
    """Even where a clock is behind the clock of the owner before."""
    await owner.enter([(b"a", b"1")], epoch=2**50)
    await successor.tables.open([PLACE], 1)
    assert successor.tables.partition(PLACE).epoch == 2**50 + 1


def test_the_epochs_header_has_a_name_of_its_own() -> None:
    assert EPOCH == "epoch"  # on disk in every changelog: a new name would make old records count as epoch 0
