"""This process's partitions of all tables: opened when they are assigned, closed when they are taken away."""

import asyncio
from collections.abc import Iterable

import structlog

from contracts.clock import now_ms
from streams.changelog import Changelog
from streams.errors import Fenced
from streams.store import Place, Store
from streams.table import Partition

_log = structlog.get_logger()


class Tables:
    def __init__(self, store: Store, changelog: Changelog, names: Iterable[str]) -> None:
        self._store = store
        self._changelog = changelog
        self._locks = {name: asyncio.Lock() for name in names}
        self._open: dict[Place, Partition] = {}
        self.generation = -1  # of the consumer group, as of which partitions are open

    def lock(self, table: str) -> asyncio.Lock:
        """Held from the decisions of a batch until its changes are entered in the changelog."""
        return self._locks[table]

    def partition(self, place: Place) -> Partition:
        return self._open[place]

    def own(self, table: str) -> list[Partition]:
        """Those that are open now."""
        return [partition for place, partition in self._open.items() if place.table == table]

    async def open(self, places: Iterable[Place], generation: int) -> None:
        """Bring these, and no others, up to date. They are usable when this returns."""
        self._open.clear()
        caught_up = await self._changelog.catch_up(places)
        for place, (mark, stale) in caught_up.items():
            epoch = max(mark.epoch + 1, now_ms())
            self._open[place] = Partition(self._store, place, mark, epoch, self._check_gap)
            self._open[place].write_again(stale)
        self.generation = generation

    def close(self) -> None:
        self._open.clear()
        self.generation = -1

    async def _check_gap(self, place: Place, first: int, stop: int, epoch: int) -> set[bytes]:
        """Somebody else wrote: a process that woke up too late, or else it is this one that did. Returns the keys that
        it wrote. Raises Fenced."""
        newest, keys = await self._changelog.between(place, first, stop)
        if newest >= epoch:
            raise Fenced(f"another process owns {place} now")
        _log.warning("passed over a former owner's writes", place=str(place), records=stop - first)
        return keys
