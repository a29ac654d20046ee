"""One ingress in memory and one on Kafka for the whole session; the behaviour suite runs against both."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from contracts.api_keys import ApiKey, new_api_key
from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.topic_admin import ensure_topics
from tests.support.ingress import Api, kafka_ingress, kafka_pipeline, memory_api, write_key

LIMITS: dict[str, Any] = {
    "max_body_bytes": 100_000,
    "ingress_wait_seconds": 45.0,  # on a busy machine, too
    "ingress_max_wait_seconds": 60.0,
    "ingress_publish_timeout_ms": 20_000,
    "ingress_return_seconds": 3600.0,  # else one test's hang-up would be written within another
}


@pytest.fixture(scope="session")
async def memory() -> AsyncIterator[Api]:
    async with memory_api(Settings(**LIMITS)) as (api, _):
        yield api


@pytest.fixture(scope="session")
def broker_settings(broker: KafkaBroker) -> Settings:
    return Settings(kafka_bootstrap_servers=broker.bootstrap, topic_prefix="ingress-", **LIMITS)


@pytest.fixture(scope="session")
async def kafka(broker_settings: Settings) -> AsyncIterator[Api]:
    settings = broker_settings
    await ensure_topics(settings, all_topics(settings, load_catalogue()))
    secret = new_api_key()
    await write_key(settings, secret, ApiKey(id="k1", tenant="acme", created_at=0))
    async with kafka_pipeline(settings) as pipeline, kafka_ingress(settings) as url:
        yield Api(url, secret, pipeline)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The same promises whatever is behind."""
    api: Api = request.getfixturevalue(request.param)
    yield api
    api.reset()
