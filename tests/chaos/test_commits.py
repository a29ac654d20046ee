"""A commit that goes back is found in Kafka's own log of them."""

import struct

from aiokafka import ConsumerRecord, TopicPartition

from tests.chaos.commits import stale


def key(partition: int, group: str = "workers", version: int = 1) -> bytes:
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in (group, "work.small.interactive"))
    return struct.pack(">h", version) + names + struct.pack(">i", partition)


def commit(key: bytes, offset: int | None) -> ConsumerRecord:
    value = None if offset is None else struct.pack(">hqi", 3, offset, -1) + bytes(10)
    return ConsumerRecord("__consumer_offsets", 0, 0, 1000, 0, key, value, None, 0, 0, ())


def test_commits_that_go_on_are_well() -> None:
    records = [commit(key(0), 3), commit(key(1), 1), commit(key(0), 3), commit(key(0, "others"), 2), commit(key(0), 4)]
    assert list(stale(records)) == []


def test_a_commit_that_goes_back_is_stale() -> None:
    [found] = stale([commit(key(2), 81), commit(key(2), 80), commit(key(2), 82)])
    assert (found.group, found.partition) == ("workers", TopicPartition("work.small.interactive", 2))
    assert (found.before, found.after) == (81, 80)


def test_what_is_no_commit_is_passed_over() -> None:
    group_metadata = commit(key(0, version=2), 7)
    assert list(stale([commit(key(0), 9), group_metadata, commit(key(0), None), commit(key(0), 1)])) == []
