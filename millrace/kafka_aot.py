"""Kafka's start-up cache (JEP 483, JEP 514): made once by a trial run, it cuts the broker's start from 2 s to 0.7 s.

It holds the loaded and linked classes for exactly these jars and this JRE (70 MB). The JRE ignores one that doesn't
fit, so it can cost nothing but time.
"""

import asyncio
import os
import tempfile
from pathlib import Path

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts.errors import StackError
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_runtime import KafkaRuntime, java_version

log = structlog.get_logger()
_TRIAL_RECORDS = 500
_STOP_SECONDS = 60.0  # the JRE writes the cache as it ends


async def with_aot_cache(jars: Path) -> KafkaRuntime:
    """Makes the cache when there is none. Kafka runs without it as well, so failing to make it is only logged."""
    cache = jars / f"jre-{java_version()}.aot"
    if not cache.exists():
        try:
            await _make(jars, cache)
        except (StackError, OSError) as error:
            log.warning("Kafka starts without its start-up cache", reason=str(error))
            return KafkaRuntime(jars)
    return KafkaRuntime(jars, cache)


async def _make(jars: Path, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=jars, prefix=".trial-") as folder:
        made = Path(folder) / cache.name
        flags = (f"-XX:AOTCacheOutput={made}",)
        broker = KafkaBroker(KafkaRuntime(jars), Path(folder) / "data", jvm_flags=flags, stop_seconds=_STOP_SECONDS)
        await broker.start()
        try:
            await _exercise(broker.bootstrap)
        finally:
            await broker.stop()
        os.replace(made, cache)  # noqa: PTH105 - atomic, whoever else makes it at the same time


async def _exercise(bootstrap: str) -> None:
    """What the stack will ask of it: topics, idempotent writes, a consumer group that commits."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("trial", 4, 1, topic_configs={"cleanup.policy": "compact"})])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        sends = [await producer.send("trial", b"value", key=b"%d" % n) for n in range(_TRIAL_RECORDS)]
        await asyncio.gather(*sends)
    consumer = AIOKafkaConsumer("trial", bootstrap_servers=bootstrap, group_id="trial", auto_offset_reset="earliest")
    async with consumer:
        seen = 0
        while seen < _TRIAL_RECORDS:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        await consumer.commit()
