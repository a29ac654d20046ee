from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.partition import key_hash, partition_of


@given(st.binary(max_size=64))
def test_hashes_as_kafkas_clients_do(key: bytes) -> None:
    assert key_hash(key) == murmur2(key) & 0x7FFFFFFF


@given(st.binary(max_size=64), st.integers(1, 64))
def test_chooses_the_partition_that_kafkas_clients_do(key: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)
