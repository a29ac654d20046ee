"""Every commit of every group, in the order of Kafka's own log of them: one that goes back is a stale commit, by
someone who no longer owned the partition, or who forgot.

Read from `__consumer_offsets`: a coordinator that has just taken over may answer with an older offset for a while.
"""

import struct
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from contracts.settings import Settings
from tests.support.audit import read_all

_TOPIC = "__consumer_offsets"
_OFFSET_KEYS = (0, 1)  # versions of a commit's key; others are of groups


class StaleCommit(NamedTuple):
    at: float  # monotonic, seconds
    group: str
    partition: TopicPartition
    before: int
    after: int


async def stale_commits(settings: Settings) -> list[StaleCommit]:
    """Of the whole run: nothing of the topic is compacted within 100 MiB."""
    return list(stale(await read_all(settings.kafka_bootstrap_servers, _TOPIC)))


def stale(records: Iterable[ConsumerRecord]) -> Iterator[StaleCommit]:
    """`records`: each partition's in order. A group that was deleted begins anew."""
    boot = time.monotonic() - time.time()
    last: dict[bytes, int] = {}
    for record in records:
        if not record.key or struct.unpack_from(">h", record.key)[0] not in _OFFSET_KEYS:
            continue
        before = last.pop(record.key, -1)
        if record.value:
            after = last[record.key] = struct.unpack_from(">q", record.value, 2)[0]
            if after < before:
                yield StaleCommit(record.timestamp / 1000 + boot, *_parse(record.key), before, after)


def _parse(key: bytes) -> tuple[str, TopicPartition]:
    """int16 version, then group and topic (each an int16 length and UTF-8), then int32 partition."""
    group, at = _text(key, 2)
    topic, at = _text(key, at)
    return group, TopicPartition(topic, struct.unpack_from(">i", key, at)[0])


def _text(key: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + struct.unpack_from(">h", key, at)[0]
    return key[at + 2 : end].decode(), end
