"""Ends the process when Faust stands still: known faults of its consumer that no error tells of.

Acknowledged offsets that are never committed, records that are there and never arrive, a rebalance that never ends. A
restart heals each.
"""

import asyncio
import time
from typing import Any, NamedTuple

from faust.types import TP

from streams.errors import Fatal
from streams.gate import Gate

_LOOK_SECONDS = 5.0
_STILL_SECONDS = 30.0
_STARVED_SECONDS = 300.0  # while others of its topic move: a long backlog comes partition by partition
_CLOSED_SECONDS = 300.0  # a rebalance, and tables read from the beginning, take less


class _Sight(NamedTuple):
    """What must change as long as there is something to do."""

    committed: int | None
    position: int | None


class Watchdog:
    def __init__(self, consumer: Any, gate: Gate) -> None:
        self._consumer = consumer
        self._gate = gate
        self._seen: dict[TP, tuple[_Sight, float]] = {}
        self._moved: dict[str, float] = {}  # when some partition of a topic did
        self._closed_at: float | None = None

    async def watch(self) -> None:
        """Never returns. Raises Fatal naming what stands still."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """`now`: monotonic, seconds. Raises Fatal."""
        if self._gate.is_open:
            self._closed_at = None
            self._look_at_partitions(now)
            return
        self._seen.clear()
        self._closed_at = self._closed_at or now
        if now - self._closed_at > _CLOSED_SECONDS:
            raise Fatal(f"no partitions have been opened for {_CLOSED_SECONDS:.0f} s")

    def _look_at_partitions(self, now: float) -> None:
        for tp in self._consumer.assignment():
            sight = self._sight(tp)
            before, since = self._seen.get(tp, (None, now))
            if sight != before:
                self._moved[tp.topic] = now
            if sight != before or not self._waits(tp):
                self._seen[tp] = (sight, now)
            elif now - since > self._patience(tp, now):
                raise Fatal(f"{tp.topic}-{tp.partition} has stood still for {now - since:.0f} s")

    def _patience(self, tp: TP, now: float) -> float:
        """Seconds."""
        return _STARVED_SECONDS if now - self._moved[tp.topic] < _STILL_SECONDS else _STILL_SECONDS

    def _sight(self, tp: TP) -> _Sight:
        return _Sight(self._consumer._committed_offset[tp], self._consumer.progress(tp)[0])  # noqa: SLF001

    def _waits(self, tp: TP) -> bool:
        position, end = self._consumer.progress(tp)
        behind = position is not None and end is not None and position < end
        return behind or bool(self._consumer._acked[tp])  # noqa: SLF001
