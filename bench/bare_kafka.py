"""A Kafka with Millrace's topics and none of its services."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_setup import prepare_kafka
from millrace.stack_settings import StackSettings
from millrace.topic_admin import ensure_topics


@asynccontextmanager
async def bare_kafka() -> AsyncIterator[Settings]:
    """In a temporary folder; stopped at the end."""
    runtime = await prepare_kafka(StackSettings())
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        broker = KafkaBroker(runtime, Path(folder))
        await broker.start()
        try:
            settings = Settings(kafka_bootstrap_servers=broker.bootstrap)
            await ensure_topics(settings, all_topics(settings, load_catalogue()))
            yield settings
        finally:
            await broker.stop()
