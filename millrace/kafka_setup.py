"""Everything that Kafka needs on this machine: jars and start-up cache, made on first use."""

import asyncio

from millrace.kafka_aot import with_aot_cache
from millrace.kafka_jars import kafka_jars, maven_fetch
from millrace.kafka_runtime import KafkaRuntime
from millrace.stack_settings import StackSettings


async def prepare_kafka(settings: StackSettings) -> KafkaRuntime:
    """Downloads 45 MB and takes 15–20 s the first time; 50 ms afterwards. Raises StackError."""
    fetch = maven_fetch(settings.maven_url)
    jars = await asyncio.to_thread(kafka_jars, settings.cache, fetch=fetch)
    return await with_aot_cache(jars)
