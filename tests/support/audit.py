"""Counting from outside, in Kafka's own records: who was answered, how often, and what it cost."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts.frames import Frame, FrameKind
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from millrace.topic_admin import kafka_admin

DEADLINE_SECONDS = 60.0


async def read_all(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """Every record there is now."""
    async with kafka_admin(Settings(kafka_bootstrap_servers=bootstrap)) as admin:
        [described] = await admin.describe_topics([topic])
    partitions = [TopicPartition(topic, entry["partition"]) for entry in described["partitions"]]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    records: list[ConsumerRecord] = []
    async with consumer, asyncio.timeout(DEADLINE_SECONDS):
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
    return records


@dataclass
class Audit:
    """By record key: the different final answers, and the events of the bill."""

    finals: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    usage: dict[str, dict[str, UsageEvent]] = field(default_factory=lambda: defaultdict(dict))
    waste: list[UsageEvent] = field(default_factory=list)


async def audit(bootstrap: str, topics_prefix: str = "") -> Audit:
    """Records that came twice with the same identity and bytes count once: that is what at-least-once means."""
    found = Audit()
    for record in await read_all(bootstrap, f"{topics_prefix}responses"):
        frame = Frame.from_headers(record.headers)
        if frame.kind is FrameKind.FINAL:
            found.finals[record.key.decode()].add(record.value)
    for record in await read_all(bootstrap, f"{topics_prefix}usage"):
        event = UsageEvent.model_validate_json(record.value)
        if event.kind is UsageKind.WASTE:
            found.waste.append(event)
        elif event.kind is UsageKind.USAGE:
            known = found.usage[f"{event.tenant}:{event.idempotency_key}"].setdefault(event.event_id, event)
            assert known == event, "one event id, two contents"
    return found
