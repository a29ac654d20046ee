"""What `millrace topics` shows: partitions and records per topic, and how far each consumer group is behind."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import TopicSpec
from millrace.topic_admin import kafka_admin

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class TopicState:
    name: str
    partitions: int  # 0: the topic doesn't exist
    records: int  # end offsets less beginning offsets: compaction and transactions make it an upper bound
    lag: dict[str, int] = field(default_factory=dict)  # records that a group has not committed, by group


async def describe_topics(settings: Settings, specs: Iterable[TopicSpec]) -> list[TopicState]:
    """Raises StackError when no broker answers."""
    async with kafka_admin(settings) as admin:
        names = [spec.name for spec in specs]
        found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(names)}
        groups = await _committed(admin, settings.topic_prefix)
    partitions = [TopicPartition(name, n) for name, count in found.items() for n in range(count)]
    beginning, end = await _bounds(settings, partitions)
    return [_state(name, found.get(name, 0), beginning, end, groups) for name in names]


def _state(name: str, partitions: int, beginning: Offsets, end: Offsets, groups: Mapping[str, Offsets]) -> TopicState:
    mine = [TopicPartition(name, n) for n in range(partitions)]
    lag = {
        group: sum(end[tp] - max(offset, beginning[tp]) for tp, offset in offsets.items() if tp in mine)
        for group, offsets in groups.items()
        if any(tp in offsets for tp in mine)
    }
    return TopicState(name, partitions, sum(end[tp] - beginning[tp] for tp in mine), lag)


async def _committed(admin: AIOKafkaAdminClient, prefix: str) -> dict[str, Offsets]:
    names = sorted(group for group, *_ in await admin.list_consumer_groups() if group.startswith(prefix))
    groups: dict[str, Offsets] = {}
    for name in names:
        offsets = await admin.list_consumer_group_offsets(name)
        groups[name] = {tp: meta.offset for tp, meta in offsets.items() if meta.offset >= 0}
    return groups


async def _bounds(settings: Settings, partitions: list[TopicPartition]) -> tuple[Offsets, Offsets]:
    if not partitions:  # and an aiokafka consumer that is stopped at once raises CancelledError
        return {}, {}
    async with AIOKafkaConsumer(**client_options(settings)) as consumer:
        return await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
