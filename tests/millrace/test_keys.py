"""API keys on their compacted topic: made, listed, revoked; never a secret on Kafka."""

import pytest

from contracts.api_keys import ApiKey, hash_api_key
from contracts.errors import InvalidRequest, StackError
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.keys import create_key, ensure_demo_key, list_keys, revoke_key
from millrace.ports import free_port
from tests.support.records import read

pytestmark = pytest.mark.broker


async def test_a_key_is_stored_as_its_hash_alone(settings: Settings) -> None:
    made = await create_key(settings, "acme", "ann")
    [record] = await read(settings.kafka_bootstrap_servers, Topics.of(settings).api_keys, 1)
    assert record.key == hash_api_key(made.secret)
    assert ApiKey.model_validate_json(record.value) == made.key
    assert (made.key.tenant, made.key.user) == ("acme", "ann")
    assert made.secret.encode() not in record.key + record.value


async def test_keys_are_listed_until_they_are_revoked(settings: Settings) -> None:
    assert await list_keys(settings) == []
    made = [(await create_key(settings, tenant)).key for tenant in ("acme", "bolt")]
    assert await list_keys(settings) == made
    assert await revoke_key(settings, made[0].id) == made[0]
    assert await list_keys(settings) == made[1:]


async def test_an_unknown_key_cannot_be_revoked(settings: Settings) -> None:
    with pytest.raises(StackError, match=r"^There is no API key key-1: "):
        await revoke_key(settings, "key-1")


async def test_a_tenant_must_have_a_proper_name(settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match="tenant's name"):
        await create_key(settings, "a:b")


async def test_the_demo_tenant_gets_one_key_only(settings: Settings) -> None:
    assert (await ensure_demo_key(settings) or "").startswith("mr_")
    assert await ensure_demo_key(settings) is None


async def test_without_a_kafka_or_its_topics_one_sentence_says_so(settings: Settings) -> None:
    port = free_port()
    with pytest.raises(StackError, match=rf"^No Kafka answers at 127\.0\.0\.1:{port}\.$"):
        await create_key(Settings(kafka_bootstrap_servers=f"127.0.0.1:{port}"), "acme")
    with pytest.raises(StackError, match=r"^Topic none-api-keys is not there: `millrace topics --create`"):
        await list_keys(settings.model_copy(update={"topic_prefix": "none-"}))
