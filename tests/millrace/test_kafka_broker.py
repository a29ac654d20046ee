"""The real broker as a child process: its life, its faults, its refusals."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from contracts.errors import StackError
from contracts.settings import Settings
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_runtime import KafkaRuntime
from millrace.topic_admin import kafka_admin
from tests.support.records import produce, read
from tests.support.topics import make_topic

pytestmark = pytest.mark.broker


@pytest.fixture
async def own_broker(kafka_runtime: KafkaRuntime, tmp_path: Path) -> AsyncIterator[KafkaBroker]:
    broker = KafkaBroker(kafka_runtime, tmp_path / "kafka")
    yield broker
    await broker.stop()


async def test_it_answers_as_soon_as_it_is_started(bootstrap: str, topic_prefix: str) -> None:
    await make_topic(bootstrap, topic_prefix)
    await produce(bootstrap, topic_prefix, [b"one", b"two"])
    assert [record.value for record in await read(bootstrap, topic_prefix, 2)] == [b"one", b"two"]


async def test_a_cluster_id_may_begin_with_a_hyphen(own_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uuid.uuid4", lambda: UUID(bytes=b"\xfb" * 16))
    await own_broker.start()
    assert own_broker.pid


async def test_an_unknown_topic_is_not_made_in_passing(bootstrap: str, topic_prefix: str) -> None:
    async with kafka_admin(Settings(kafka_bootstrap_servers=bootstrap)) as admin:
        await admin.describe_topics([topic_prefix])
        assert topic_prefix not in await admin.list_topics()


async def test_records_outlive_a_restart_and_a_kill(own_broker: KafkaBroker) -> None:
    await own_broker.start()
    await make_topic(own_broker.bootstrap, "kept")
    await produce(own_broker.bootstrap, "kept", [b"before the stop"])
    assert await own_broker.stop()
    assert own_broker.pid is None

    await own_broker.start()
    await produce(own_broker.bootstrap, "kept", [b"before the kill"])
    own_broker.kill()
    assert await own_broker.wait() == -9

    await own_broker.start()
    values = [record.value for record in await read(own_broker.bootstrap, "kept", 2)]
    assert values == [b"before the stop", b"before the kill"]


async def test_it_listens_on_this_machine_only(broker: KafkaBroker) -> None:
    connections = psutil.Process(broker.pid).net_connections("tcp")
    addresses = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


async def test_a_second_broker_on_its_folder_is_refused(
    own_broker: KafkaBroker, kafka_runtime: KafkaRuntime, tmp_path: Path
) -> None:
    await own_broker.start()
    with pytest.raises(StackError, match=r"^The data folder .* is in use by process \d+: stop that one"):
        await KafkaBroker(kafka_runtime, tmp_path / "kafka").start()
    assert own_broker.pid is not None


async def test_a_taken_port_is_refused(broker: KafkaBroker, kafka_runtime: KafkaRuntime, tmp_path: Path) -> None:
    second = KafkaBroker(kafka_runtime, tmp_path / "kafka", port=broker.port)
    with pytest.raises(StackError, match=rf"^Port {broker.port}, wanted for Kafka, is in use by java"):
        await second.start()
    assert second.pid is None


async def test_a_broker_that_ends_while_starting_says_why(kafka_runtime: KafkaRuntime, tmp_path: Path) -> None:
    broken = KafkaBroker(kafka_runtime, tmp_path / "kafka", jvm_flags=("-XX:NoSuchFlag",))
    with pytest.raises(StackError, match=r"(?s)^Kafka stopped while starting \(exit status 1\).*NoSuchFlag"):
        await broken.start()
    assert broken.pid is None


async def test_a_broker_that_never_answers_is_ended(kafka_runtime: KafkaRuntime, tmp_path: Path) -> None:
    slow = KafkaBroker(kafka_runtime, tmp_path / "kafka", ready_seconds=0.01)
    with pytest.raises(StackError, match=r"^Kafka was not ready within 0\.01 s"):
        await slow.start()
    assert slow.pid is None
