"""One process's partitions of a table: what is on disk, and above it what is on its way into the changelog."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from streams.expiry import Progress
from streams.store import Aged, Mark, Place, Store, Write

_OLDEST = Aged(0, b"")
_NEVER = 1 << 62
_LOOK_AGAIN_MS = 3_600_000  # what had to be kept is looked at again this much later
Check = Callable[[Place, int, int, int], Awaitable[set[bytes]]]  # place, first and last offset of a gap, own epoch


class Flight:
    """One batch's changes, on their way into the changelog."""

    def __init__(self, number: int, writes: list[Write], forget: list[Aged], before: "Flight | None") -> None:
        self.number = number
        self.writes = writes
        self.forget = forget
        self.before = before
        self.landed = asyncio.Event()


class Partition:
    """A `streams.state.State`. `check_gap` is asked when somebody else wrote to the changelog between two batches."""

    def __init__(self, store: Store, place: Place, mark: Mark, epoch: int, check_gap: Check) -> None:
        self.place = place
        self.epoch = epoch
        self.progress: defaultdict[str, Progress] = defaultdict(Progress)  # by source topic
        self._store = store
        self._position = mark.position
        self._check_gap = check_gap
        self._above: dict[bytes, tuple[int, bytes | None]] = {}  # flight's number, value
        self._batch: dict[bytes, bytes | None] = {}
        self._last: Flight | None = None
        self._flights = 0
        self._after = _OLDEST  # where the look at the oldest entries goes on
        self._next_born = 0  # nothing beyond that place is older
        self._began_at = 0  # when that look last began at the beginning
        self._forget: list[Aged] = []

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

    def aged(self, before: int, most: int) -> list[Aged]:
        """The next ones that count from before that time (UTC ms). Costs nothing when there are none."""
        if before - self._began_at >= _LOOK_AGAIN_MS:
            self._after, self._next_born, self._began_at = _OLDEST, 0, before
        if self._next_born >= before:
            return []
        rows = self._store.aged(self.place, self._after, most + 1)
        due = [row for row in rows[:most] if row.born < before]
        self._next_born = rows[len(due)].born if len(due) < len(rows) else _NEVER
        self._after = due[-1] if due else self._after
        return due

    def forget(self, aged: Aged) -> None:
        """It needn't be looked at again."""
        self._forget.append(aged)

    def depart(self) -> Flight | None:
        """Takes the batch's changes; None when there are none. Flights land in the order of their departure."""
        if not self._batch:
            return None  # and what is to be forgotten waits for the next batch
        self._flights += 1
        before = self._last if self._last and not self._last.landed.is_set() else None
        flight = Flight(self._flights, list(self._batch.items()), self._forget, before)
        self._above |= {key: (flight.number, value) for key, value in flight.writes}
        self._batch, self._forget = {}, []
        self._last = flight
        return flight

    async def read_landed(self) -> None:
        """What was read of this partition, perhaps another stage's changes, is in Kafka and on disk."""
        if self._last:
            await self._last.landed.wait()

    async def land(self, flight: Flight, first: int, end: int, at: int) -> None:
        """Kafka has them, at offsets first <= offset < end: now the disk may have them too."""
        if flight.before:
            await flight.before.landed.wait()
        stale = set[bytes]()
        if first != self._position:
            stale = await self._check_gap(self.place, self._position, first, self.epoch)
        self._note_births(self._store.write(self.place, flight.writes, Mark(end, self.epoch, at), flight.forget))
        self._position = end
        for key, _ in flight.writes:
            if self._above[key][0] == flight.number:
                del self._above[key]
        flight.before = None
        flight.landed.set()
        self.write_again(stale - {key for key, _ in flight.writes})

    def write_again(self, stale: set[bytes]) -> None:
        """With the next batch: the changelog's last records of these keys are of a former owner."""
        self._batch |= {key: self.get(key) for key in stale - self._above.keys()}

    def _note_births(self, earliest: int | None) -> None:
        """What was written is on disk, perhaps before the place where the look at the oldest goes on."""
        if earliest is None:
            return
        self._next_born = min(self._next_born, earliest)
        if earliest <= self._after.born:
            self._after = Aged(earliest, b"")
