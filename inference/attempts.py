"""How often a record's worker died on it: counted where a crash can't lose it, at no cost while nothing crashes.

A mark for every request would cost every request. Kafka's commit has room for a text, so each regular commit carries
one for its partition: that a worker holds it, and how far it has begun. A worker that leaves says so; one that finds
the text of a worker that never left knows that it died.

1. What may have been in flight then has one try behind it, and runs again at full speed: mostly it wasn't to blame. But
   from now on each of these is marked in the commit's text *before* it starts, so the next crash counts exactly.
2. The last try is made alone in its process. Whoever dies alone is to blame; whoever runs beside it never is.
3. A record whose tries are spent isn't run again.

A hang is a try as well, and harms nobody: the text counts it once it has happened, and the next try is made in the same
process, beside others; alone only where the record may have been part of a crash, too.

Offsets in the text are relative to the commit's own. The broker takes 4096 bytes of it.
"""

from collections.abc import Iterable
from typing import Self

import orjson

_MOST_COUNTED = 200  # records: what 4096 bytes have room for, wherever they lie
_MOST_HUNG = 40  # likewise
_BETWEEN_COMMITS = 1000  # records that may have begun since the last commit told
_MOST_DONE_BYTES = 900  # of the text; what finished out of order and has no place there may run again, as waste


class Trail:
    """One partition's counts while this worker holds it."""

    def __init__(
        self,
        below: int = 0,
        tries: dict[int, int] | None = None,
        *,
        died: bool = False,
        begun: int = 0,
        holder: str = "",
    ) -> None:
        self.died = died  # its last holder
        self.holder = holder  # who wrote the text
        self.done: list[int] = []  # offsets that others finished above the position
        self._begun = begun  # below this offset others have begun, whether they died or left
        self._below = below  # what lies under this offset may have been in flight at one crash
        self._tries = tries or {}  # offset: tries that ended in a crash, where it is known exactly
        self._trying: set[int] = set()
        self._hangs: dict[int, int] = {}  # offset: tries that hung, in whichever worker

    @classmethod
    def take_over(cls, text: str, position: int, end: int, room: int, ahead: int = 0) -> Self:
        """From the text beside the committed position. `end` is the partition's, `room` the most a worker runs, `ahead`
        how far it may begin before others of the partition."""
        try:
            fields = orjson.loads(text or "{}")
            counted = [(position + away, count, trying) for away, count, trying in fields.get("tries", ())]
            died, below, begun = bool(fields.get("held")), int(fields.get("below", 0)), int(fields.get("begun", 0))
            holder = str(fields.get("by", ""))
            hangs = {position + int(away): int(count) for away, count in fields.get("hangs", ())}
            done = [offset for away, length in fields.get("done", ()) for offset in _range(position + away, length)]
        except (ValueError, TypeError, AttributeError):  # a text of somebody else's
            return cls()
        tries = {offset: count + (1 if died and trying else 0) for offset, count, trying in counted}
        if died:
            below = max(below, min(max(begun, position + ahead) + 2 * room + _BETWEEN_COMMITS, end))
        trail = cls(below, tries, died=died, begun=max(begun, below), holder=holder)
        trail.done, trail._hangs = done, hangs
        return trail

    def tries(self, offset: int) -> int:
        """Crashes that it may have caused."""
        return self._tries.get(offset) or int(offset < self._below)

    def spent(self, offset: int, most: int) -> int:
        """Tries of `most`. That it was beside a crash, no more than suspected, never makes the last one."""
        hangs = self._hangs.get(offset, 0)
        spent = self.tries(offset) + hangs
        return spent if offset in self._tries else max(hangs, min(spent, most - 1))

    def may_have_begun(self, offset: int) -> bool:
        """Before this worker held the partition, in another or in this one."""
        return offset < self._begun

    def start(self, offset: int) -> None:
        """It is about to run: to be committed before it does."""
        self._tries[offset] = self.tries(offset)
        self._trying.add(offset)

    def hang(self, offset: int) -> None:
        """One more try is over, and did no harm to others: to be committed before the next."""
        self._hangs[offset] = self._hangs.get(offset, 0) + 1
        self._trying.discard(offset)

    def finish(self, offset: int) -> None:
        self._tries.pop(offset, None)
        self._hangs.pop(offset, None)
        self._trying.discard(offset)

    def text(self, position: int, begun: int, *, held: bool, by: str = "", done: Iterable[int] = ()) -> str:
        fields: dict[str, object] = {"held": held, "begun": max(begun, self._begun), "by": by}
        if self._below > position:
            fields["below"] = self._below
        if self._tries:
            counted = sorted(offset for offset in self._tries if offset >= position)[:_MOST_COUNTED]
            fields["tries"] = [[o - position, self._tries[o], int(held and o in self._trying)] for o in counted]
        if self._hangs:
            hung = sorted(offset for offset in self._hangs if offset >= position)[:_MOST_HUNG]
            fields["hangs"] = [[offset - position, self._hangs[offset]] for offset in hung]
        if ranges := _ranges(sorted(offset - position for offset in done if offset >= position)):
            fields["done"] = ranges
        return orjson.dumps(fields).decode()

    @property
    def state(self) -> tuple[int, int, int]:
        """Changes whenever what the text says of tries does."""
        return len(self._tries), hash(frozenset(self._trying)), sum(self._hangs.values())


def _ranges(numbers: list[int]) -> list[list[int]]:
    """Start and length of each run of numbers, as far as there is space for them."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == sum(ranges[-1]):
            ranges[-1][1] += 1
        else:
            ranges.append([number, 1])
    space = _MOST_DONE_BYTES
    for index, (start, length) in enumerate(ranges):
        space -= len(str(start)) + len(str(length)) + 4
        if space < 0:
            return ranges[:index]
    return ranges


def _range(start: int, length: int) -> range:
    return range(start, start + length)
