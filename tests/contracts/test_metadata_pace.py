"""While Kafka is away, or a partition has no leader, its clients ask at a measured pace."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.structs import PartitionMetadata

from contracts import metadata_pace
from contracts.metadata_pace import PACE_SECONDS, mend_metadata_pace

TIMES = 4


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    """It never finds a broker."""
    mend_metadata_pace()
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    yield client
    await client.close()


def known(leader: int) -> Any:
    cluster: Any = ClusterMetadata()
    cluster._partitions = {"usage": {0: PartitionMetadata("usage", 0, leader, [1], [1], None)}}
    return cluster


async def seconds_of(client: Any, cluster: Any) -> float:
    clock = asyncio.get_running_loop().time
    began = clock()
    for _ in range(TIMES):
        await client._metadata_update(cluster, set())
    return clock() - began


async def test_a_kafka_that_is_away_is_not_asked_without_end(client: Any) -> None:
    assert await seconds_of(client, client.cluster) >= TIMES * PACE_SECONDS * 0.9


async def test_nor_is_one_whose_partitions_have_no_leader(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def updated(*_: object) -> bool:
        return True

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(metadata_pace, "_plain_update", updated)
    monkeypatch.setattr(metadata_pace.asyncio, "sleep", sleep)
    await client._metadata_update(known(leader=1), set())
    assert slept == []
    await client._metadata_update(known(leader=-1), set())
    assert slept == [PACE_SECONDS]
