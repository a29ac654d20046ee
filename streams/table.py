"""One process's partitions of a table: what is on disk, and above it what is on its way into the changelog."""

import asyncio
from collections.abc import Awaitable, Callable

from streams.store import Mark, Place, Store, Write

Check = Callable[[Place, int, int, int], Awaitable[None]]  # place, first and last offset of a gap, own epoch


class Flight:
    """One batch's changes, on their way into the changelog."""

    def __init__(self, number: int, writes: list[Write], before: "Flight | None") -> None:
        self.number = number
        self.writes = writes
        self.before = before
        self.landed = asyncio.Event()


class Partition:
    """A `streams.state.State`. `check_gap` is asked when somebody else wrote to the changelog between two batches."""

    def __init__(self, store: Store, place: Place, mark: Mark, epoch: int, check_gap: Check) -> None:
        self.place = place
        self.epoch = epoch
        self._store = store
        self._position = mark.position
        self._check_gap = check_gap
        self._above: dict[bytes, tuple[int, bytes | None]] = {}  # flight's number, value
        self._batch: dict[bytes, bytes | None] = {}
        self._last: Flight | None = None
        self._flights = 0

    def get(self, key: bytes) -> bytes | None:
        if key in self._batch:
            return self._batch[key]
        if key in self._above:
            return self._above[key][1]
        return self._store.get(self.place, key)

    def put(self, key: bytes, value: bytes | None) -> None:
        self._batch[key] = value

    def scan(self, start: bytes, stop: bytes, most: int) -> list[tuple[bytes, bytes]]:
        above = {key: value for key, (_, value) in self._above.items() if start <= key < stop}
        above |= {key: value for key, value in self._batch.items() if start <= key < stop}
        hidden = sum(value is None for value in above.values())
        merged: dict[bytes, bytes | None] = dict(self._store.scan(self.place, start, stop, most + hidden))
        merged |= above
        return [(key, value) for key, value in sorted(merged.items()) if value is not None][:most]

    def depart(self) -> Flight | None:
        """Takes the batch's changes; None when there are none. Flights land in the order of their departure."""
        if not self._batch:
            return None
        self._flights += 1
        before = self._last if self._last and not self._last.landed.is_set() else None
        flight = Flight(self._flights, list(self._batch.items()), before)
        self._above |= {key: (flight.number, value) for key, value in flight.writes}
        self._batch = {}
        self._last = flight
        return flight

    async def land(self, flight: Flight, first: int, end: int, at: int) -> None:
        """Kafka has them, at offsets first <= offset < end: now the disk may have them too."""
        if flight.before:
            await flight.before.landed.wait()
        if first != self._position:
            await self._check_gap(self.place, self._position, first, self.epoch)
        self._store.write(self.place, flight.writes, Mark(end, self.epoch, at))
        self._position = end
        for key, _ in flight.writes:
            if self._above[key][0] == flight.number:
                del self._above[key]
        flight.before = None
        flight.landed.set()
