"""Whether analytics can do its work now, as `/readyz` tells it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Health:
    """Written by the sink, read by the port."""

    problem: str = "starting"
    stored: int = 0  # events since the start
    block: int = 0  # events in the last block
    lag: int = 0  # events that Kafka had beyond that block when it was stored
    behind_ms: int = 0  # from the last block's newest record to its rows
    waiting: int = 0  # events of a block that isn't stored yet
    waiting_since_ms: int | None = None  # UTC: the oldest of these

    @property
    def ready(self) -> bool:
        return not self.problem

    def is_well(self) -> None:
        self.problem = ""

    def has_stored(self, events: int, *, lag: int, behind_ms: int) -> None:
        self.stored += events
        self.block, self.lag, self.behind_ms = events, lag, behind_ms

    def waits_for(self, events: int, since_ms: int | None) -> None:
        """Until these are stored."""
        self.waiting, self.waiting_since_ms = events, since_ms

    def ails(self, problem: str) -> None:
        self.problem = problem
