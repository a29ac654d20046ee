"""API keys on the compacted topic `api-keys`: made, listed, revoked. Secrets are shown once and stored nowhere."""

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from ulid import ULID

from contracts.api_keys import ApiKey, hash_api_key, new_api_key
from contracts.clock import now_ms
from contracts.errors import StackError
from contracts.kafka import client_options, producer_options
from contracts.keys import check_tenant
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.topic_admin import kafka_admin

DEMO_TENANT, OPERATOR_TENANT = "demo", "operator"


@dataclass(frozen=True, slots=True)
class NewKey:
    secret: str
    key: ApiKey


async def create_key(settings: Settings, tenant: str, user: str = "", *, operator: bool = False) -> NewKey:
    """Valid as soon as each ingress has read it: milliseconds. Raises InvalidRequest, or StackError without a Kafka."""
    secret = new_api_key()
    key = ApiKey(
        id=f"key-{str(ULID()).lower()}",
        tenant=check_tenant(tenant),
        user=user,
        operator=operator,
        created_at=now_ms(),
    )
    await _publish(settings, hash_api_key(secret), key.model_dump_json().encode())
    return NewKey(secret, key)


async def list_keys(settings: Settings) -> list[ApiKey]:
    """Oldest first."""
    keys = await _read(settings)
    return sorted(keys.values(), key=lambda key: key.created_at)


async def revoke_key(settings: Settings, key_id: str) -> ApiKey:
    """Raises StackError when there is none by that id."""
    found = [(hashed, key) for hashed, key in (await _read(settings)).items() if key.id == key_id]
    if not found:
        raise StackError(f"There is no API key {key_id}: `millrace keys list` shows them.")
    [(hashed, key)] = found
    await _publish(settings, hashed, None)
    return key


async def ensure_demo_key(settings: Settings) -> str | None:
    """The secret of a first key for tenant `demo`; None when that tenant has one already."""
    if any(key.tenant == DEMO_TENANT for key in await list_keys(settings)):
        return None
    return (await create_key(settings, DEMO_TENANT)).secret


async def ensure_operator_key(settings: Settings) -> str | None:
    """The secret of a first key that opens the dashboard for every tenant; None when there is one already."""
    if any(key.operator for key in await list_keys(settings)):
        return None
    return (await create_key(settings, OPERATOR_TENANT, operator=True)).secret


async def _publish(settings: Settings, hashed: bytes, value: bytes | None) -> None:
    async with kafka_admin(settings):  # one sentence where there is no Kafka
        pass
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        await producer.send_and_wait(Topics.of(settings).api_keys, value, key=hashed)


async def _read(settings: Settings) -> dict[bytes, ApiKey]:
    """By hash: the topic from its beginning to what is its end now."""
    partition = TopicPartition(Topics.of(settings).api_keys, 0)
    async with kafka_admin(settings) as admin:
        [topic] = await admin.describe_topics([partition.topic])
    if not topic["partitions"]:
        raise StackError(f"Topic {partition.topic} is not there: `millrace topics --create` makes it.")
    keys: dict[bytes, ApiKey] = {}
    async with AIOKafkaConsumer(**client_options(settings)) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(timeout_ms=200)).get(partition, []):
                keys.pop(record.key, None)
                if record.value is not None:
                    keys[record.key] = ApiKey.model_validate_json(record.value)
    return keys
