"""Ends the process when Faust stands still: known faults of its consumer that no error tells of.

Acknowledged offsets that are never committed, and records that are there and never arrive. A restart heals both.
"""

import asyncio
import time
from typing import Any, NamedTuple

from faust.types import TP

from streams.errors import Fatal
from streams.gate import Gate

_LOOK_SECONDS = 5.0
_STILL_SECONDS = 30.0


class _Sight(NamedTuple):
    """What must change as long as there is something to do."""

    committed: int | None
    read: int | None


class Watchdog:
    def __init__(self, consumer: Any, gate: Gate) -> None:
        self._consumer = consumer
        self._gate = gate
        self._seen: dict[TP, tuple[_Sight, float]] = {}

    async def watch(self) -> None:
        """Never returns. Raises Fatal naming the partition that stands still."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._gate.is_open:
                self.look(time.monotonic())
            else:
                self._seen.clear()

    def look(self, now: float) -> None:
        for tp in self._consumer.assignment():
            sight = self._sight(tp)
            before, since = self._seen.get(tp, (None, now))
            if sight != before or not self._waits(tp):
                self._seen[tp] = (sight, now)
            elif now - since > _STILL_SECONDS:
                raise Fatal(f"{tp.topic}-{tp.partition} has stood still for {_STILL_SECONDS:.0f} s")

    def _sight(self, tp: TP) -> _Sight:
        return _Sight(self._consumer._committed_offset[tp], self._consumer._read_offset[tp])  # noqa: SLF001

    def _waits(self, tp: TP) -> bool:
        if self._consumer._acked[tp]:  # noqa: SLF001
            return True
        end, read = self._consumer.highwater(tp), self._consumer._read_offset[tp]  # noqa: SLF001
        return end is not None and read is not None and end > read + 1
