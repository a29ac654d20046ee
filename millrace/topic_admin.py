"""Topics on any Kafka: made once with their settings, checked when they exist already."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from contracts.errors import StackError
from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import TopicSpec
from millrace.polling import until

_PRESENT_SECONDS = 30.0  # for every partition to have a leader


@asynccontextmanager
async def kafka_admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Raises StackError when no broker answers."""
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=15_000)
    try:
        await admin.start()
    except KafkaError:
        await admin.close()
        raise StackError(f"No Kafka answers at {settings.kafka_bootstrap_servers}.") from None
    try:
        yield admin
    finally:
        await admin.close()


async def ensure_topics(settings: Settings, specs: Iterable[TopicSpec]) -> None:
    """Returns when every topic is there, each partition with a leader, and groups can be joined. May be repeated.

    Raises StackError when one can't be made, or exists with another number of partitions.
    """
    wanted = {spec.name: spec for spec in specs}
    async with kafka_admin(settings) as admin:
        await _create(admin, wanted.values(), settings.replication_factor, settings.min_insync_replicas)
        try:
            async with asyncio.timeout(_PRESENT_SECONDS):
                await until(lambda: _present(admin, wanted))
                await until(lambda: _coordinator_answers(admin))
        except TimeoutError:
            raise StackError(f"Kafka did not bring up the topics within {_PRESENT_SECONDS:.0f} s.") from None


async def _create(admin: AIOKafkaAdminClient, specs: Iterable[TopicSpec], replicas: int, min_insync: int) -> None:
    durable = {"min.insync.replicas": str(min_insync)}
    new = [NewTopic(spec.name, spec.partitions, replicas, topic_configs=durable | spec.config) for spec in specs]
    response = await admin.create_topics(new)
    for name, code, message, *_ in response.topic_errors:
        if for_code(code) not in (NoError, TopicAlreadyExistsError):
            raise StackError(f"Topic {name} can't be made: {message or for_code(code).description}.")


async def _present(admin: AIOKafkaAdminClient, wanted: Mapping[str, TopicSpec]) -> bool:
    led = 0
    for topic in await admin.describe_topics(list(wanted)):
        partitions = [p for p in topic["partitions"] if p["leader"] >= 0]
        spec = wanted[topic["topic"]]
        if len(partitions) == len(topic["partitions"]) and len(partitions) > 0:
            _check_count(spec, len(partitions))
            led += 1
    return led == len(wanted)


def _check_count(spec: TopicSpec, found: int) -> None:
    """Keys would change their partition, and with it their state: nobody may grow a topic in passing."""
    if found != spec.partitions:
        raise StackError(
            f"Topic {spec.name} has {found} partitions but the settings ask for {spec.partitions}: set the number "
            "back, or use another topic prefix or data folder."
        )


async def _coordinator_answers(admin: AIOKafkaAdminClient) -> bool:
    """The first question makes Kafka's own offsets topic; the services then find their coordinator at once."""
    try:
        node = await admin.find_coordinator("millrace")
        await admin.list_consumer_group_offsets("millrace", group_coordinator_id=node)
    except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
        return False
    return True
