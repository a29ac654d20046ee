"""Topics for tests."""

from contracts.settings import Settings
from contracts.topics import TopicSpec
from millrace.topic_admin import ensure_topics


async def make_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    await ensure_topics(Settings(kafka_bootstrap_servers=bootstrap), [TopicSpec(name, partitions)])
