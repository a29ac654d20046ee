"""Which lane's turn it is: interactive work first, batch work in what that leaves, and its floor in any case."""

from collections.abc import Callable
from typing import Final

from contracts.envelope import Lane
from contracts.topics import LANES

_HEADROOM = 8  # one part in so many of the room stays free of batch work: for interactive work that comes suddenly
_MEAN_OF = 8  # requests


class Turns:
    """Two rules. While both lanes wait, tokens are shared out: `batch_share` of them to batch work. While only batch
    work waits it may have that share of the room when interactive work was seen within `quiet_seconds`, since whatever
    else is in the engine slows that down; and nearly all of the room when not."""

    def __init__(self, room: int, batch_share: float, quiet_seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quiet_seconds = quiet_seconds
        self._shares: Final[dict[Lane, float]] = {"interactive": 1 - batch_share, "batch": batch_share}
        self._beside = max(int(room * batch_share), 1)
        self._alone = max(room - room // _HEADROOM, 1)
        self._had: dict[Lane, float] = dict.fromkeys(LANES, 0.0)  # tokens, over the lane's share
        self._running: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._mean = 0.0  # tokens of a request
        self._seen_at = -quiet_seconds  # interactive work, by the clock

    def next(self, *, interactive: bool, batch: bool) -> Lane | None:
        """Whose turn it is, of the lanes that have work waiting; None when neither may start."""
        if not (interactive and batch):
            self._level(interactive=interactive, batch=batch)
        if interactive:
            return "batch" if batch and self._owed else "interactive"
        return "batch" if batch and self._running["batch"] < self.batch_room else None

    @property
    def _owed(self) -> bool:
        """Whether the batch lane has had so little that one more request doesn't exceed its share."""
        share = self._shares["batch"]
        return share > 0 and self._had["batch"] + self._mean / share <= self._had["interactive"]

    def start(self, lane: Lane, tokens: int) -> None:
        self._running[lane] += 1
        self._mean += (tokens - self._mean) / _MEAN_OF
        self.charge(lane, tokens)
        if lane == "interactive":
            self._seen_at = self._clock()

    def end(self, lane: Lane) -> None:
        self._running[lane] -= 1
        if lane == "interactive":
            self._seen_at = self._clock()

    def charge(self, lane: Lane, tokens: int) -> None:
        """It took so many tokens, or so many more or less than it said."""
        if share := self._shares[lane]:
            self._had[lane] += tokens / share

    @property
    def batch_room(self) -> int:
        """Requests of batch work that may run while no interactive work waits."""
        quiet = not self._running["interactive"] and self._clock() - self._seen_at >= self._quiet_seconds
        return self._alone if quiet else self._beside

    def _level(self, *, interactive: bool, batch: bool) -> None:
        """A lane that has nothing waiting saves nothing up for later."""
        if interactive:
            self._had["batch"] = max(self._had["batch"], self._had["interactive"])
        elif batch:
            self._had["interactive"] = max(self._had["interactive"], self._had["batch"])
