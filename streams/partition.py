"""Kafka's default partitioner (murmur2), as Java's and aiokafka's producers have it."""

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    return key_hash(key) % partitions


@lru_cache(maxsize=32_768)
def key_hash(key: bytes) -> int:
    """A request's key comes by several times, and the hash is the dearest part of sending a small record.

    Source: org.apache.kafka.common.utils.Utils.murmur2 and toPositive.
    """
    length = len(key)
    words = length // 4
    hashed = _SEED ^ length
    for word in struct.unpack_from(f"<{words}I", key):
        mixed = word * _M & _MASK
        mixed = (mixed ^ mixed >> 24) * _M & _MASK
        hashed = hashed * _M & _MASK ^ mixed
    rest = key[words * 4 :]
    if rest:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return (hashed ^ hashed >> 15) & 0x7FFFFFFF
