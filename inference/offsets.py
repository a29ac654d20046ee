"""Which offset of a partition may be committed while its records finish out of order."""

from collections.abc import Iterable


class OffsetTracker:
    """One partition, through any number of rebalances.

    Commits only the contiguous prefix: every record below the position has finished. What has finished here is known
    by its offset, so a redelivery to this process never runs it twice. Offsets may have gaps.
    """

    def __init__(self) -> None:
        self._open: dict[int, None] = {}  # delivered under this assignment and not finished, in order
        self._done: set[int] = set()  # finished, not yet under a committed position
        self._base: int | None = None  # first offset delivered under this assignment
        self._next = 0  # one past the last
        self._begun = 0

    def assigned(self) -> None:
        """The partition is ours (again). Another worker may have moved the position meanwhile: only what is delivered
        from now on says where it stands."""
        self._base = None
        self._open.clear()

    def pass_over(self, done: Iterable[int]) -> None:
        """These, above the position, others have finished; some may have been delivered here already."""
        for offset in done:
            self._done.add(offset)
            self._open.pop(offset, None)

    def deliver(self, offset: int) -> bool:
        """A record has come; within an assignment they come in order. False when it has finished already."""
        if self._base is None:
            self._base = offset
            self._done = {done for done in self._done if done >= offset}
        self._next = offset + 1
        if offset in self._done:
            return False
        self._open[offset] = None
        return True

    def start(self, offset: int) -> bool:
        """What was delivered runs, perhaps since an assignment before. False when it needn't: it has finished, here or
        elsewhere."""
        if offset not in self._open:
            return False
        self._begun = max(self._begun, offset + 1)
        return True

    def finish(self, offset: int) -> None:
        self._open.pop(offset, None)
        self._done.add(offset)

    @property
    def position(self) -> int | None:
        """The offset to commit; None while nothing was delivered under this assignment."""
        if self._base is None:
            return None
        return next(iter(self._open), self._next)

    @property
    def read_to(self) -> int | None:
        """One past the last record delivered under this assignment; None before the first."""
        return None if self._base is None else self._next

    @property
    def begun(self) -> int:
        """One past the last record that has begun, in this assignment or one before."""
        return self._begun

    @property
    def done(self) -> set[int]:
        """Finished here, and not under a committed position yet."""
        return self._done

    def committed(self, position: int) -> None:
        """Kafka has the position: nothing below it will be delivered again."""
        self._done = {done for done in self._done if done >= position}
