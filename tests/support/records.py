"""Producing and reading records in tests, with deadlines."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

DEADLINE_SECONDS = 60.0


async def produce(bootstrap: str, topic: str, values: list[bytes], *, key: bytes | None = None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        sends = [await producer.send(topic, value, key=key) for value in values]
        await asyncio.gather(*sends)


async def read(bootstrap: str, topic: str, count: int, *, partitions: int = 1) -> list[ConsumerRecord]:
    """The first `count` records. Raises TimeoutError when there are fewer."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(DEADLINE_SECONDS):
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        return [await consumer.getone() for _ in range(count)]


async def read_in_group(bootstrap: str, topic: str, group: str, count: int) -> list[ConsumerRecord]:
    """The next `count` records of the group, committed one by one."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    records: list[ConsumerRecord] = []
    async with consumer, asyncio.timeout(DEADLINE_SECONDS):
        while len(records) < count:
            record = await consumer.getone()
            await consumer.commit({TopicPartition(topic, record.partition): record.offset + 1})
            records.append(record)
    return records
