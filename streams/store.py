"""The tables on disk: one RocksDB for all of a process's partitions, always a prefix of their changelogs.

What a batch changed is written here only after Kafka has it, together with the changelog offset that it ends at. So
after any end of the process, the disk says by itself where reading on must begin, and never knows more than the log.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson
from rocksdict import BlockBasedIndexType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from contracts.errors import StackError
from streams.errors import StoreFailed
from streams.state import OWN

_CACHE_BYTES = 64 << 20
_WRITE_BUFFER_BYTES = 16 << 20
_BLOOM_BITS = 10
_METADATA_BYTES = 4096
_FORMAT = "v2"
_GONE = (4096, 2048, 0.5)  # of so many rows in a file, so many deleted ones: worth a compaction


class Place(NamedTuple):
    """One partition of a table."""

    table: str
    partition: int

    def __str__(self) -> str:
        return f"{self.table}-{self.partition}"


class Mark(NamedTuple):
    """How far the changelog is in the store."""

    position: int  # the next offset to read
    epoch: int  # of the newest owner that was seen, see changelog.py
    at: int  # UTC ms of the last write


Write = tuple[bytes, bytes | None]
Born = Callable[[bytes], int]  # an entry's value to the time that it counts from, UTC ms


class Aged(NamedTuple):
    """An entry of that key counted from then when it was written. It may have been replaced or deleted since."""

    born: int
    key: bytes


class Store:
    """Raises StackError when the folder can't be used; afterwards StoreFailed when the disk fails.

    `born`: for tables whose entries are to be found by age, see `aged`.
    """

    def __init__(self, folder: Path, born: Mapping[str, Born] | None = None) -> None:
        self._path = folder / f"tables-{_FORMAT}"
        self._born = born or {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = _open(self._path)
        except Exception as error:  # noqa: BLE001 - rocksdict raises nothing narrower
            raise StackError(f"The streams' tables in {folder} can't be opened: {error}.") from None
        for older in set(folder.glob("tables-*")) - {self._path}:
            shutil.rmtree(older, ignore_errors=True)  # what they held is read from Kafka again

    def get(self, place: Place, key: bytes) -> bytes | None:
        with _failing():
            value: bytes | None = self._db.get(_prefix(place) + key)
        return value

    def scan(self, place: Place, start: bytes, stop: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """The first entries with start <= key < stop, in order."""
        prefix = _prefix(place)
        found: list[tuple[bytes, bytes]] = []
        with _failing():
            rows = self._db.iter()
            rows.seek(prefix + start)
            while len(found) < most and rows.valid() and (key := rows.key()) < prefix + stop:
                found.append((key[len(prefix) :], rows.value()))
                rows.next()
        return found

    def aged(self, place: Place, after: Aged, most: int) -> list[Aged]:
        """The oldest that come after that one."""
        prefix = _age_prefix(place)
        found: list[Aged] = []
        with _failing():
            rows = self._db.iter()
            rows.seek(prefix + _age_row(after) + b"\0")
            while len(found) < most and rows.valid() and (row := rows.key()).startswith(prefix):
                found.append(_aged(row[len(prefix) :]))
                rows.next()
        return found

    def mark(self, place: Place) -> Mark | None:
        stored = self._db.get(_mark_key(place))
        return Mark(*orjson.loads(stored)) if stored else None

    def write(self, place: Place, writes: Iterable[Write], mark: Mark, forget: Iterable[Aged] = ()) -> int | None:
        """All or nothing, whenever the process ends. `forget`: no longer listed by `aged`. Returns the earliest time
        that a written entry counts from, in a table that has such times."""
        prefix, born = _prefix(place), self._born.get(place.table)
        ages: list[Aged] = []
        batch = WriteBatch(raw_mode=True)
        for key, value in writes:
            if value is None:
                batch.delete(prefix + key)
            else:
                batch.put(prefix + key, value)
                if born and not key.startswith(OWN):
                    ages.append(Aged(born(value), key))
        self._keep_ages(batch, place, ages, forget)
        batch.put(_mark_key(place), orjson.dumps([*mark]))
        with _failing():
            self._db.write(batch)
        return min(ages).born if ages else None

    def clear(self, place: Place) -> None:
        """Forget a partition: it is read again from its changelog's beginning."""
        batch = WriteBatch(raw_mode=True)
        for prefix in (_prefix(place), _age_prefix(place)):
            batch.delete_range(prefix, prefix[:-1] + b"\x01")
        batch.delete(_mark_key(place))
        self._db.write(batch)

    @staticmethod
    def _keep_ages(batch: WriteBatch, place: Place, ages: Iterable[Aged], forget: Iterable[Aged]) -> None:
        prefix = _age_prefix(place)
        for aged in forget:
            batch.delete(prefix + _age_row(aged))
        for aged in ages:
            batch.put(prefix + _age_row(aged), b"")

    def close(self) -> None:
        self._db.close()

    def destroy(self) -> None:
        """Close, and remove what is on disk."""
        self.close()
        shutil.rmtree(self._path, ignore_errors=True)


class _failing:  # noqa: N801 - reads as a word; contextlib's costs three times as much, on every look-up
    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            raise StoreFailed(f"the tables on disk failed: {error}") from error


def _prefix(place: Place) -> bytes:
    return b"%b\0%d\0" % (place.table.encode(), place.partition)


def _age_prefix(place: Place) -> bytes:
    return b"\0age\0" + _prefix(place)


def _age_row(aged: Aged) -> bytes:
    return max(0, aged.born).to_bytes(8) + aged.key


def _aged(row: bytes) -> Aged:
    return Aged(int.from_bytes(row[:8]), row[8:])


def _mark_key(place: Place) -> bytes:
    return b"\0mark\0" + _prefix(place)


def _open(path: Path) -> Rdict:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_CACHE_BYTES))  # RocksDB's own default is 2 GiB
    blocks.set_bloom_filter(_BLOOM_BITS, block_based=False)  # most keys that are looked up are new
    # An index in one piece is as large as a shard of the cache: it would be read, and uncompressed, at every look-up.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_metadata_block_size(_METADATA_BYTES)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    options.add_compact_on_deletion_collector_factory(*_GONE)
    return Rdict(str(path), options)
