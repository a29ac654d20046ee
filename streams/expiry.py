"""Entries whose window has passed leave the table, once nothing that may still come could tell that they did.

What is deleted here is deleted from the changelog too. When that happens depends on when Kafka got our commits, so it
isn't the same on every replay. It needn't be: an entry goes only when every record that can still come is decided
without it as it would be with it.

1. *The claim comes again after a crash*, and would run a second time. Never: Kafka has a committed offset beyond it.
2. *The completion that ended it comes again*, and would be a second bill or none. Never, for the same reason.
3. *A duplicate from within the window comes again*, and would claim the key. The time that counts is that of requests
   whose offsets are committed, and it is an hour past the window: what comes now is younger than the window by any
   clock that Kafka lets in. (It refuses records from more than an hour ahead.)
4. *A second outcome of the same claim comes late*, from a worker that slept, and would be a second bill. The table
   keeps the newest claim that was removed, its floor, in the same batch as the deletion. A claim up to there that has
   no entry had one, since its offset was committed: the outcome is waste. (Above the floor and without an entry, the
   claim's news were lost in a crash, and the outcome is its first.)
5. *A request for the key comes*: it claims the key, whether it finds an entry that has expired or none.
6. *It never ended*: it stays until its records on `admitted` and `work` are gone by Kafka's retention. Whoever waits,
   waits in the entry, and the outcome may come as long as the work is there. By the time of completions, too: one that
   has come may not have been read yet.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from contracts.envelope import Claim
from contracts.settings import Settings
from streams.entry import Entry
from streams.state import OWN, State

SKEW_MS = 3_600_000  # of clocks; Kafka's message.timestamp.after.max.ms
_HOUR_MS = 3_600_000
_FLOOR = OWN + b"floor"


class Behind(NamedTuple):
    """What can't come again: on both sources all before these offsets. Nothing to come is older than that (UTC ms), but
    for clocks that are off."""

    requests: int
    requests_at: int
    completions: int
    completions_at: int


@dataclass(frozen=True, slots=True)
class Expiry:
    """`work_ms` is how long Kafka keeps work that waits."""

    window_ms: int
    work_ms: int

    @classmethod
    def of(cls, settings: Settings) -> "Expiry":
        return cls(settings.idempotency_window_hours * _HOUR_MS, settings.retention_hours * _HOUR_MS)

    def before(self, behind: Behind) -> int:
        """What was accepted later (UTC ms) can't be over yet."""
        return behind.requests_at - self.window_ms - SKEW_MS

    def over(self, entry: Entry, behind: Behind) -> bool:
        if entry.answer is None:
            at = min(behind.requests_at, behind.completions_at)
            kept_ms = max(self.window_ms, self.work_ms)
            return entry.claim.offset < behind.requests and at >= entry.accepted_at + kept_ms + SKEW_MS
        ended = [one.answer.settled_offset for one in (entry, entry.previous) if one and one.answer]
        read_again = entry.claim.offset >= behind.requests or max(ended) >= behind.completions
        return not read_again and entry.accepted_at < self.before(behind)


class Progress:
    """One source partition, as far as it was read here: how much of it is committed, and from when that is."""

    def __init__(self) -> None:
        self.offset = 0
        self.at = 0  # the latest timestamp below `offset`, UTC ms
        self._acknowledged: deque[tuple[int, int]] = deque()

    def acknowledged(self, next_offset: int, at: int) -> None:
        """All before that offset is done; `at` is the latest timestamp among what is new."""
        self._acknowledged.append((next_offset, at))

    def committed(self, offset: int) -> None:
        """Kafka has this offset."""
        while self._acknowledged and self._acknowledged[0][0] <= offset:
            self.offset, at = self._acknowledged.popleft()
            self.at = max(self.at, at)


def behind(requests: Progress, completions: Progress) -> Behind:
    return Behind(requests.offset, requests.at, completions.offset, completions.at)


class Floor(NamedTuple):
    """The newest claim that was removed from this partition."""

    state: State

    def reaches(self, claim: Claim) -> bool:
        stored = self.state.get(_FLOOR)
        return stored is not None and claim.offset <= int(stored)

    def raise_to(self, claim: Claim) -> None:
        if not self.reaches(claim):
            self.state.put(_FLOOR, b"%d" % claim.offset)
