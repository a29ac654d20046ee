"""What a decision reads and what it hands out. Times are UTC ms."""

from typing import NamedTuple

from contracts.headers import RawHeaders


class Record(NamedTuple):
    """One consumed record. Whatever is decided is decided by `timestamp`, so that a replay decides the same."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: RawHeaders
    seen_at: int  # when this process read it: shown in the ledger's timings, decides nothing

    @property
    def position(self) -> str:
        return f"{self.partition}.{self.offset}"


class Output(NamedTuple):
    """One record to produce. Without a partition, the key's murmur2 hash chooses it."""

    topic: str
    key: bytes | None
    value: bytes
    headers: RawHeaders
    partition: int | None = None
