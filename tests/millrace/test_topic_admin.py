"""Topics are made once, with their settings, and never silently differ from what the services expect."""

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from contracts.catalogue import load_catalogue
from contracts.errors import StackError
from contracts.settings import Settings
from contracts.topics import Topics, TopicSpec, all_topics
from millrace.ports import free_port
from millrace.topic_admin import ensure_topics, kafka_admin
from millrace.topic_report import describe_topics
from tests.support.records import produce, read_in_group

pytestmark = pytest.mark.broker


async def test_every_topic_of_the_stack_is_there(settings: Settings) -> None:
    specs = all_topics(settings, load_catalogue())
    states = await describe_topics(settings, specs)
    assert {s.name: s.partitions for s in states} == {s.name: s.partitions for s in specs}


async def test_topics_carry_their_settings(settings: Settings) -> None:
    name = Topics.of(settings).api_keys
    async with kafka_admin(settings) as admin:
        [response] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    [(_, _, _, _, entries)] = response.resources
    values = {entry[0]: entry[1] for entry in entries}
    assert values["cleanup.policy"] == "compact"
    assert values["min.insync.replicas"] == "1"


async def test_making_them_again_changes_nothing(settings: Settings) -> None:
    specs = all_topics(settings, load_catalogue())
    await produce(settings.kafka_bootstrap_servers, specs[0].name, [b"kept"])
    await ensure_topics(settings, specs)
    state = next(s for s in await describe_topics(settings, specs) if s.name == specs[0].name)
    assert state.records == 1


async def test_another_partition_count_is_refused(settings: Settings) -> None:
    name = Topics.of(settings).usage
    with pytest.raises(StackError, match=rf"^Topic {name} has 4 partitions but the settings ask for 5"):
        await ensure_topics(settings, [TopicSpec(name, 5)])


async def test_an_impossible_topic_is_named(settings: Settings) -> None:
    name = f"{settings.topic_prefix}bad"
    with pytest.raises(StackError, match=rf"^Topic {name} can't be made: "):
        await ensure_topics(settings, [TopicSpec(name, 1, {"retention.ms": "long"})])


async def test_no_broker_is_one_sentence() -> None:
    port = free_port()
    nowhere = Settings(kafka_bootstrap_servers=f"127.0.0.1:{port}")
    with pytest.raises(StackError, match=rf"^No Kafka answers at 127\.0\.0\.1:{port}\.$"):
        await ensure_topics(nowhere, [])


async def test_lag_is_what_a_group_has_not_committed(settings: Settings) -> None:
    spec = TopicSpec(Topics.of(settings).usage, settings.tenant_partitions)
    group = f"{settings.topic_prefix}readers"
    await produce(settings.kafka_bootstrap_servers, spec.name, [b"1", b"2", b"3"], key=b"acme")
    await read_in_group(settings.kafka_bootstrap_servers, spec.name, group, 1)
    await produce(settings.kafka_bootstrap_servers, spec.name, [b"4"], key=b"acme")
    [state] = await describe_topics(settings, [spec])
    assert (state.records, state.lag) == (4, {group: 3})


async def test_a_topic_that_is_not_there_shows_no_partitions(settings: Settings) -> None:
    [state] = await describe_topics(settings, [TopicSpec(f"{settings.topic_prefix}absent", 3)])
    assert (state.partitions, state.records, state.lag) == (0, 0, {})
