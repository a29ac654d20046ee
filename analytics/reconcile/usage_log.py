"""One partition of `usage` against the ledger's rows: every offset once, in 9 bytes a record."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

_MOST_ROWS = 255  # of one offset; more are counted as this many
_NOTHING = 0  # no record there: a gap that Kafka itself left


class Offsets(NamedTuple):
    """From `first` to `last`, both included."""

    first: int
    last: int


class UsageLog:
    """Offsets `first` up to `end`. A digest stands for what a record says, and a row must say the same; never 0."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, max(first, end)
        self._digests = array("Q", bytes(8 * (self.end - first)))
        self._rows = bytearray(self.end - first)
        self._excused: set[int] = set()
        self.differing: list[int] = []  # offsets whose row says something else

    def record(self, offset: int, digest: int) -> None:
        if self.first <= offset < self.end:
            self._digests[offset - self.first] = digest

    def row(self, offset: int, digest: int) -> None:
        """Of the ledger; after all records."""
        if self.first <= offset < self.end:
            place = offset - self.first
            self._rows[place] = min(self._rows[place] + 1, _MOST_ROWS)
            if digest and self._digests[place] != digest:  # 0: of somebody who was forgotten
                self.differing.append(offset)

    def excuse(self, offset: int) -> None:
        """It needs no row of its own: a known duplicate, or nothing that is a usage event."""
        self._excused.add(offset)

    @property
    def records(self) -> int:
        return len(self._digests) - self._digests.count(_NOTHING)

    @property
    def stored(self) -> int:
        """Offsets with a row, or more than one."""
        return len(self._rows) - self._rows.count(0)

    def missing(self) -> Iterator[int]:
        """Offsets with a record, without a row, and without an excuse."""
        start = self._rows.find(0)
        while start >= 0:
            if self._digests[start] != _NOTHING and self.first + start not in self._excused:
                yield self.first + start
            start = self._rows.find(0, start + 1)

    def doubled(self) -> list[tuple[int, int]]:
        """(offset, rows) of those with more than one."""
        if max(self._rows, default=0) < 2:
            return []
        return [(self.first + place, rows) for place, rows in enumerate(self._rows) if rows > 1]


def ranges(offsets: Iterable[int]) -> list[Offsets]:
    """Neighbours together; `offsets` ascend."""
    numbered = groupby(enumerate(offsets), key=lambda pair: pair[1] - pair[0])
    found = [[offset for _, offset in group] for _, group in numbered]
    return [Offsets(group[0], group[-1]) for group in found]


def apart(spans: Sequence[Offsets]) -> bool:
    """Whether they ascend and don't overlap."""
    return all(before.last < after.first for before, after in pairwise(spans))
