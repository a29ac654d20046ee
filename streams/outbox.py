"""What stages publish, in as few Kafka batches as it fits, each acknowledged by every in-sync replica."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from contracts.headers import RawHeaders
from streams.changelog import EPOCH
from streams.errors import Fatal
from streams.partition import partition_of
from streams.records import Output
from streams.store import Write

_FOREIGN_SECONDS = 5.0  # a reply topic of somebody else's mustn't hold up a stage for longer
_FOREIGN_BATCH_BYTES = 512_000  # fits into Kafka's default limit
_log = structlog.get_logger()

Delivery = asyncio.Future[RecordMetadata]
Groups = defaultdict[tuple[str, int], list[Output]]


class Directory(Protocol):
    async def partitions(self, topic: str) -> int | None:
        """How many a topic has; None when it doesn't exist."""


class Entered(NamedTuple):
    """One Kafka batch of a table's changes, on its way."""

    delivery: Delivery
    records: int


class Outbox:
    """`ours` are the topics that must work, and their partitions; frames to others fall back to `responses`."""

    def __init__(
        self, producer: AIOKafkaProducer, ours: Mapping[str, int], responses: str, directory: Directory, max_bytes: int
    ) -> None:
        self._producer = producer
        self._ours = ours
        self._responses = responses
        self._directory = directory
        self._max_bytes = max_bytes

    async def deliver(self, outputs: Iterable[Output]) -> None:
        """Returns when all are in Kafka. Raises Fatal when one of ours can't be."""
        ours: Groups = defaultdict(list)
        foreign: Groups = defaultdict(list)
        for output in outputs:
            await self._sort(output, ours, foreign)
        deliveries = [delivery for place, group in ours.items() for delivery in await self._send(place, group)]
        if foreign:
            await asyncio.gather(*(self._reply(place, group) for place, group in foreign.items()))
        await _landed(deliveries)

    async def enter_changelog(self, topic: str, partition: int, writes: list[Write], epoch: int) -> list[Entered]:
        """In order, after whatever was entered before.

        All in one Kafka batch, which Kafka keeps or loses as a whole, unless the values are too large for one.
        """
        headers: RawHeaders = [(EPOCH, str(epoch).encode())]
        batches = _batches(((key, value, headers) for key, value in writes), self._max_bytes)
        return [
            Entered(await self._producer.send_batch(batch, topic, partition=partition), batch.record_count())
            for batch in batches
        ]

    async def _sort(self, output: Output, ours: Groups, foreign: Groups) -> None:
        count = self._ours.get(output.topic)
        if count is not None:
            ours[output.topic, _partition(output, count)].append(output)
            return
        count = await self._directory.partitions(output.topic)
        if count is None or (output.partition is not None and output.partition >= count):
            home = self._home(output)
            ours[home.topic, _partition(home, self._ours[home.topic])].append(home)
        else:
            foreign[output.topic, _partition(output, count)].append(output)

    def _home(self, output: Output) -> Output:
        return output._replace(topic=self._responses, partition=None)

    async def _send(
        self, place: tuple[str, int], outputs: list[Output], max_bytes: int | None = None
    ) -> list[Delivery]:
        topic, partition = place
        batches = _batches(((out.key, out.value, out.headers) for out in outputs), max_bytes or self._max_bytes)
        return [await self._producer.send_batch(batch, topic, partition=partition) for batch in batches]

    async def _reply(self, place: tuple[str, int], outputs: list[Output]) -> None:
        """To a topic that we don't answer for."""
        try:
            async with asyncio.timeout(_FOREIGN_SECONDS):
                await _landed(await self._send(place, outputs, _FOREIGN_BATCH_BYTES))
        except (Fatal, KafkaError, TimeoutError) as error:
            _log.warning("a reply topic can't be written", topic=place[0], error=repr(error))
            await self.deliver([self._home(output) for output in outputs])


async def entered(batches: list[Entered]) -> tuple[int, int]:
    """The first offset and the one after the last, once they are in Kafka. Raises Fatal."""
    places = [await _delivered(batch.delivery) for batch in batches]
    return places[0].offset, places[-1].offset + batches[-1].records


async def _landed(deliveries: Iterable[Delivery]) -> None:
    for delivery in deliveries:
        await _delivered(delivery)


async def _delivered(delivery: Delivery) -> RecordMetadata:
    try:
        return await delivery
    except KafkaError as error:
        raise Fatal(f"a delivery failed: {error!r}") from error


def _batches(
    records: Iterable[tuple[bytes | None, bytes | None, RawHeaders]], max_bytes: int
) -> Iterable[BatchBuilder]:
    """A record that is larger than that still gets a batch of its own."""
    batch = BatchBuilder(max_bytes, 0)
    for key, value, headers in records:
        if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            yield batch
            batch = BatchBuilder(max_bytes, 0)
            batch.append(timestamp=None, key=key, value=value, headers=headers)
    batch.close()
    yield batch


def _partition(output: Output, count: int) -> int:
    """A reply partition beyond the topic's last: by key, where any reader finds it."""
    if output.partition is not None and output.partition < count:
        return output.partition
    return partition_of(output.key or b"", count)
