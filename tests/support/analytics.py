"""The analytics service as a process, and how far it has come."""

import sys
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.settings import Settings
from contracts.topics import Topics
from millrace.service_process import ServiceProcess, ServiceSpec


def process_of(settings: Settings, folder: Path) -> ServiceProcess:
    environment = {
        f"MILLRACE_{name.upper()}": str(value) for name, value in settings.model_dump(exclude_unset=True).items()
    }
    return ServiceProcess(
        ServiceSpec(
            name="analytics",
            command=[sys.executable, "-m", "analytics"],
            environment=environment | {"PATH": "/usr/bin:/bin"},
            log=folder / "analytics.log",
            ready_seconds=60,
        )
    )


async def committed_lag(settings: Settings) -> int:
    topic = Topics.of(settings).usage
    partitions = [TopicPartition(topic, number) for number in range(settings.tenant_partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=Topics.of(settings).sink_group,
        enable_auto_commit=False,
    )
    async with consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        return sum([ends[tp] - (await consumer.committed(tp) or 0) for tp in partitions])
