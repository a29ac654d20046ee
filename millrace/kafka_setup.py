"""Everything that Kafka needs on this machine: jars and start-up cache, made on first use."""

import asyncio
from collections.abc import Callable

from millrace.kafka_aot import with_aot_cache
from millrace.kafka_jars import are_cached, kafka_jars, maven_fetch
from millrace.kafka_runtime import KafkaRuntime
from millrace.stack_settings import StackSettings


def _silent(_: str) -> None:
    pass


async def prepare_kafka(settings: StackSettings, say: Callable[[str], None] = _silent) -> KafkaRuntime:
    """Downloads 45 MB and takes 15 s the first time; 50 ms afterwards. Raises StackError."""
    if not are_cached(settings.cache):
        say("fetching Apache Kafka, once: 45 MB")
    fetch = maven_fetch(settings.maven_url)
    jars = await asyncio.to_thread(kafka_jars, settings.cache, fetch=fetch)
    return await with_aot_cache(jars)
