"""Mends aiokafka 0.14: while a partition has no leader its producer asks for metadata again at once, without end.

A broker that is stopped gives its partitions up before it goes, and clients learn that. From then until it is back a
producer with something to send asks hundreds of times a second, and takes from the broker, which may be starting on the
same machine, the processor time that it needs.
"""

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient

PACE_SECONDS = 0.1  # as long as aiokafka waits elsewhere before it tries again


def mend_metadata_pace() -> None:
    """For every client of this process. May be repeated."""
    AIOKafkaClient._metadata_update = _metadata_update  # noqa: SLF001 - there is no seam


async def _metadata_update(client: Any, cluster: Any, topics: Any) -> Any:
    """The next one begins no sooner than that after this one, where this one didn't help."""
    updated = await _plain_update(client, cluster, topics)
    if not updated or _leaderless(cluster):
        await asyncio.sleep(PACE_SECONDS)
    return updated


def _leaderless(cluster: Any) -> bool:
    """Some partition that the client follows has no leader."""
    partitions = (known for topic in cluster._partitions.values() for known in topic.values())  # noqa: SLF001
    return any(partition.leader in (None, -1) for partition in partitions)


_plain_update = AIOKafkaClient._metadata_update  # noqa: SLF001
