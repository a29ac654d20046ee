"""Session fixtures: one real Kafka for all tests, and topics of its own for each test that asks."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_runtime import KafkaRuntime
from millrace.kafka_setup import prepare_kafka
from millrace.stack_settings import StackSettings
from millrace.topic_admin import ensure_topics

hypothesis.settings.register_profile(  # a machine may be busy: that is no finding
    "millrace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("millrace")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under `pytest -n`: a file's tests stay together, and all of tests/stack, which share one running stack."""
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - absent where vLLM's tests run

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "stack" if nodeid.startswith("tests/stack/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session")
async def kafka_runtime() -> KafkaRuntime:
    """From the user's cache: only the first session on a machine downloads."""
    return await prepare_kafka(StackSettings())


@pytest.fixture(scope="session")
async def broker(kafka_runtime: KafkaRuntime, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaBroker]:
    """The session's Kafka. Tests that stop or kill a broker start their own."""
    broker = KafkaBroker(kafka_runtime, tmp_path_factory.mktemp("kafka"))
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture(scope="session")
def bootstrap(broker: KafkaBroker) -> str:
    return broker.bootstrap


@pytest.fixture
def topic_prefix() -> str:
    return f"t{uuid4().hex[:8]}-"


@pytest.fixture
async def settings(bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """The session's Kafka under a prefix of its own, every topic made; state in the test's folder, free ports."""
    settings = Settings(
        kafka_bootstrap_servers=bootstrap,
        topic_prefix=topic_prefix,
        ingress_port=0,
        analytics_port=0,
        metrics_port=0,
        dashboard_port=0,
        streams_state_dir=tmp_path / "streams",
        clickhouse_path=tmp_path / "clickhouse",
    )
    await ensure_topics(settings, all_topics(settings, load_catalogue()))
    return settings
