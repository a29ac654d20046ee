"""When a stage should stop: most of what it reads lately is poison, so it isn't the records that are wrong."""

from collections import deque
from typing import Self

from contracts.settings import Settings


class PoisonLimit:
    """Over the last `window` records; until so many have come it never trips."""

    def __init__(self, share: float, window: int) -> None:
        self.sentence = (
            f"More than {share:.0%} of the last {window} records couldn't be understood and went to dead-letters: "
            "most likely it isn't the records that are wrong. `millrace dlq list` shows them."
        )
        self._most = share * window
        self._recent: deque[bool] = deque(maxlen=window)
        self._bad = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.poison_share, settings.poison_window)

    def count(self, *, poison: bool) -> bool:
        """One more record. True when more than the share of the last ones was poison."""
        recent = self._recent
        full = len(recent) == recent.maxlen
        self._bad += poison - (recent[0] if full else 0)
        recent.append(poison)
        return len(recent) == recent.maxlen and self._bad > self._most

    @property
    def ratio(self) -> float:
        """Of the most that it takes: beyond 1 it trips."""
        return self._bad / self._most

    def good(self, count: int) -> None:
        """So many more, none of them poison; no more of them are counted than the window has."""
        for _ in range(min(count, self._recent.maxlen or 0)):
            self.count(poison=False)
