"""Counts the open reservations of this process's partitions, by looking through them: slowly, so that it costs little.

No counter could be trusted: partitions come and go with their reservations, and a process that is killed takes its
counts along.
"""

import asyncio
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field

import structlog

from contracts.clock import now_ms
from contracts.instruments import gauges
from contracts.metrics import RESERVATION_AGE, RESERVATIONS, RESERVED_TOKENS
from contracts.topics import TENANT_TABLE
from streams.errors import StoreFailed
from streams.reservation import Hold, Reservation
from streams.table import Partition
from streams.tables import Tables

_EVERY_SECONDS = 5.0
_REST = 50  # times as long as a count took: no more than 2 % of a core
_ROWS = 500  # in one go
_START, _STOP = b"r\0", b"r\1"
_SETTLED = re.compile(rb".\[-?\d+,0,0,0,", re.DOTALL)  # what nearly all of them are begins so: it needn't be decoded


log = structlog.get_logger()


@dataclass(slots=True)
class Held:
    """By a model's open reservations. `oldest`: UTC ms."""

    requests: int = 0
    tokens: int = 0
    oldest: int = field(default_factory=now_ms)


class Census:
    """`held` is the last count, by model."""

    def __init__(self, tables: Tables, models: list[str]) -> None:
        self._tables = tables
        self._models = models
        self.held: dict[str, Held] = {}

    async def run(self) -> None:
        """Never returns."""
        while True:
            started = time.monotonic()
            try:
                self.held = await self.count()
            except Exception:
                log.exception("reservations can't be counted")  # nothing that is decided depends on it
            self._tell()
            await asyncio.sleep(max(_EVERY_SECONDS, _REST * (time.monotonic() - started)))

    def mean_tokens(self, model: str) -> float:
        """Of those that are open; 0 when none is."""
        held = self.held.get(model)
        return held.tokens / held.requests if held else 0.0

    async def count(self) -> dict[str, Held]:
        held: defaultdict[str, Held] = defaultdict(Held)
        for partition in self._tables.own(TENANT_TABLE):
            await self._look_through(partition, held)
        return held

    async def _look_through(self, partition: Partition, held: dict[str, Held]) -> None:
        start, rows = _START, [(b"", b"")]
        while rows:
            try:
                rows = partition.scan(start, _STOP, _ROWS)
            except StoreFailed:  # it is being closed, or whoever needs it will say so
                return
            for key, value in rows:
                if not _SETTLED.match(value):
                    _count(Reservation.decode(value), held)
                start = key + b"\0"
            await asyncio.sleep(0)

    def _tell(self) -> None:
        for model in {*self._models, *self.held}:
            held = self.held.get(model) or Held()
            gauges(RESERVATIONS)[model].set(held.requests)
            gauges(RESERVED_TOKENS)[model].set(held.tokens)
            gauges(RESERVATION_AGE)[model].set(max(0, now_ms() - held.oldest) / 1000 if held.requests else 0)


def _count(reservation: Reservation, held: dict[str, Held]) -> None:
    if reservation.hold is Hold.OPEN:
        model = held[reservation.choice.route.model if reservation.choice else ""]
        model.requests += 1
        model.tokens += reservation.need.tokens
        model.oldest = min(model.oldest, reservation.at)
