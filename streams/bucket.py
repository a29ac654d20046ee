"""A token bucket in integers: the level counts tokens × 60,000, so a millisecond's refill of any limit is whole."""

from typing import NamedTuple, Self

MINUTE_MS = 60_000


class Bucket(NamedTuple):
    """Starts full and holds one minute's tokens. A debt (more used than reserved) makes the level negative."""

    level: int
    at: int  # UTC ms of the level

    @classmethod
    def full(cls, limit: int, at: int) -> Self:
        return cls(limit * MINUTE_MS, at)

    def refilled(self, limit: int, now: int) -> Self:
        """Time never runs backwards here: an older record finds the level as it is."""
        now = max(now, self.at)
        return self._replace(level=min(limit * MINUTE_MS, self.level + (now - self.at) * limit), at=now)

    def wait_ms(self, tokens: int, limit: int) -> int:
        """How long until so many tokens can be taken, if nobody else takes any; 0 when they can be now."""
        return max(0, -(-(tokens * MINUTE_MS - self.level) // limit))

    def taken(self, tokens: int) -> Self:
        return self._replace(level=self.level - tokens * MINUTE_MS)

    def given(self, tokens: int, limit: int) -> Self:
        """Never above the brim."""
        return self._replace(level=min(limit * MINUTE_MS, self.level + tokens * MINUTE_MS))
