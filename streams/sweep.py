"""The share of tidying up that each batch does: a few of the oldest entries, so that the work grows with the load."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from contracts.envelope import Claim
from streams.entry import Entry
from streams.expiry import Behind, Expiry, Floor, Progress, behind
from streams.state import State
from streams.store import Aged
from streams.table import Partition

_PER_RECORD = 2  # looked at: one record adds one entry at most, so a backlog shrinks
Durable = Callable[[str, int], int]  # source topic and partition to its committed offset


class Ageing(State, Protocol):
    """A partition of a table whose entries are listed by age."""

    def aged(self, before: int, most: int) -> list[Aged]:
        """The next ones that count from before that time (UTC ms)."""

    def forget(self, aged: Aged) -> None:
        """It needn't be listed again."""


class Sweep(NamedTuple):
    """Removes what is over from a table that is fed from these two topics."""

    expiry: Expiry
    requests: str
    completions: str

    def step(self, partition: Partition, records: int, durable: Durable) -> None:
        """Once per batch of so many records, after its last one."""
        known = behind(*(self._progress(partition, source, durable) for source in (self.requests, self.completions)))
        self.remove(partition, known, records * _PER_RECORD)

    def remove(self, partition: Ageing, known: Behind, most: int) -> None:
        """Looks at so many entries at most."""
        removed: list[Claim] = []
        for aged in partition.aged(self.expiry.before(known), most):
            stored = partition.get(aged.key)
            entry = Entry.decode(stored) if stored else None
            if entry is None or max(0, entry.accepted_at) != aged.born:
                partition.forget(aged)  # deleted, or claimed anew: then it is listed at another age as well
            elif self.expiry.over(entry, known):
                partition.put(aged.key, None)
                partition.forget(aged)
                removed.append(entry.claim)
        if removed:
            Floor(partition).raise_to(max(removed))

    def _progress(self, partition: Partition, source: str, durable: Durable) -> Progress:
        progress = partition.progress[source]
        progress.committed(durable(source, partition.place.partition))
        return progress
