"""Reading Kafka for reconcile: how far each group is, where a window lies, and every record of a range, one at a time.

The order of the first two questions makes the proof: what the groups had committed is asked before the topics' ends,
and the ends are asked from the last stage to the first. So what a committed stage wrote lies before its topic's end,
and so does the cause of everything that is read.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from analytics.reconcile.usage_log import Offsets
from contracts.errors import StackError
from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import Topics

Spans = dict[TopicPartition, range]  # offsets to read
Handle = Callable[[ConsumerRecord], None]
_AT_ONCE = 5000  # records decoded before they are handled
_PARTITION_BYTES = 1 << 20
_FETCH_WAIT_MS = 200
_BROKER_WAIT_MS = 10  # a fetch that asks a finished partition too would hold up the others for longer
_NEAR = 500  # offsets: reading over such a gap is quicker than another fetch


@dataclass(slots=True)
class Snapshot:
    """Where everything stood at one moment: what lies before `ends` is read, and nothing later."""

    committed: Mapping[str, Mapping[TopicPartition, int]]  # by group
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def partitions(self, topic: str) -> list[TopicPartition]:
        return sorted(tp for tp in self.ends if tp.topic == topic)

    def passed(self, group: str, tp: TopicPartition) -> int:
        """The group has done with everything below."""
        return self.committed.get(group, {}).get(tp, 0)


class KafkaLog:
    """One consumer, in no group: reading leaves no trace."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._consumer = consumer
        self.topics = Topics.of(settings)
        self.records_read = 0

    async def snapshot(self) -> Snapshot:
        """Raises StackError when Kafka has not the topics: nothing would be found wrong with nothing."""
        topics = self.topics
        async with _admin(self._settings) as admin:
            present = await _partitions(admin, topics.prefix)
            work = sorted(name for name in present if name.startswith(f"{topics.prefix}work."))
            groups = sorted({topics.streams_app, topics.sink_group, *map(self.worker_group, work)})
            snapshot = Snapshot({group: await _committed(admin, group) for group in groups})
        stages = ([topics.usage], [topics.completions], work, [topics.admitted], [topics.requests])
        for names in (*stages, [topics.dead_letters]):
            if missing := [name for name in names if name not in present]:
                raise StackError(f"Kafka at {self._settings.kafka_bootstrap_servers} has no topic {missing[0]}.")
            partitions = [tp for name in names for tp in present[name]]
            snapshot.ends |= await self._consumer.end_offsets(partitions) if partitions else {}
        return snapshot

    def worker_group(self, work_topic: str) -> str:
        """`work.<model>.<lane>` is read by the model's workers."""
        model = work_topic.removeprefix(f"{self.topics.prefix}work.").rpartition(".")[0]
        return self.topics.worker_group(model)

    async def at(self, moment: int, partitions: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]) -> Spans:
        """From the first record at or after that time (UTC ms) up to the end."""
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, moment)) if partitions else {}
        return {tp: range(min(found[tp].offset, ends[tp]) if found[tp] else ends[tp], ends[tp]) for tp in partitions}

    async def trimmed(self, spans: Spans) -> bool:
        """Whether some of them begin where retention has removed what came before."""
        first = await self._consumer.beginning_offsets(list(spans)) if spans else {}
        return any(0 < first[tp] == span.start for tp, span in spans.items() if len(span))

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._consumer.beginning_offsets(list(partitions))
        return found

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """As they are now."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(list(partitions))
        return found

    async def read(self, spans: Spans, handle: Handle) -> None:
        """Every record, each partition in its order. Holds no more than a few thousand at once."""
        async for batch in self.batches(spans):
            for record in batch:
                handle(record)

    async def batches(self, spans: Spans, at_once: int = _AT_ONCE) -> AsyncIterator[list[ConsumerRecord]]:
        left = {tp: span.stop for tp, span in spans.items() if len(span)}
        self._consumer.assign(list(left))
        for tp in left:
            self._consumer.seek(tp, spans[tp].start)
        while left:
            for tp, records in (await self._consumer.getmany(timeout_ms=_FETCH_WAIT_MS, max_records=at_once)).items():
                wanted = [record for record in records if record.offset < left.get(tp, 0)]
                self.records_read += len(wanted)
                yield wanted
            await self._finish(left)

    async def _finish(self, left: dict[TopicPartition, int]) -> None:
        """By the position: the last offsets may hold no record."""
        done = [tp for tp, stop in left.items() if await self._consumer.position(tp) >= stop]
        for tp in done:
            del left[tp]
        if done:
            self._consumer.pause(*done)

    async def places(self, topic: str, wanted: Mapping[int, Sequence[Offsets]]) -> AsyncIterator[list[ConsumerRecord]]:
        """Just these offsets, by partition; what lies between near ones is read and dropped."""
        queues = {TopicPartition(topic, number): _near(spans) for number, spans in wanted.items() if spans}
        while queues:
            group = {tp: queue.pop(0) for tp, queue in queues.items()}
            spans = {tp: range(near[0].first, near[-1].last + 1) for tp, near in group.items()}
            async for batch in self.batches(spans):
                yield [record for record in batch if _within(group[TopicPartition(topic, record.partition)], record)]
            queues = {tp: queue for tp, queue in queues.items() if queue}


def _near(spans: Sequence[Offsets]) -> list[list[Offsets]]:
    """Groups that are cheaper to read in one go."""
    groups = [[spans[0]]]
    for before, after in pairwise(spans):
        if after.first - before.last > _NEAR:
            groups.append([])
        groups[-1].append(after)
    return groups


def _within(spans: Sequence[Offsets], record: ConsumerRecord) -> bool:
    place = bisect_right(spans, record.offset, key=lambda span: span.first) - 1
    return place >= 0 and record.offset <= spans[place].last


@asynccontextmanager
async def kafka_log(settings: Settings) -> AsyncIterator[KafkaLog]:
    """Raises StackError when no broker answers, or stops answering."""
    options = client_options(settings)
    consumer = AIOKafkaConsumer(
        max_partition_fetch_bytes=_PARTITION_BYTES,
        fetch_max_wait_ms=_BROKER_WAIT_MS,
        enable_auto_commit=False,
        **options,
    )
    try:
        await consumer.start()
        yield KafkaLog(settings, consumer)
    except KafkaError as error:
        raise StackError(f"No Kafka answers at {settings.kafka_bootstrap_servers}: {error}") from error
    finally:
        await consumer.stop()


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient, prefix: str) -> dict[str, list[TopicPartition]]:
    """By topic, of those whose name begins so."""
    names = [name for name in await admin.list_topics() if name.startswith(prefix)]
    found = await admin.describe_topics(names) if names else []
    return {
        topic["topic"]: [TopicPartition(topic["topic"], p["partition"]) for p in topic["partitions"]] for topic in found
    }


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    found = await admin.list_consumer_group_offsets(group)
    return {tp: meta.offset for tp, meta in found.items() if meta.offset >= 0}
