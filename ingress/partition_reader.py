"""One partition of frames read again from Kafka, for all who follow something in it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts.kafka import client_options
from contracts.settings import Settings
from ingress.frame import DELTA, RawFrame
from ingress.history import Listener
from ingress.tail import REQUEST_TIMEOUT_MS, RETRY_SECONDS

log = structlog.get_logger()

_CLOCKS_DIFFER_MS = 5_000  # frames bear their worker's time
_POLL_MS = 60_000
_FETCH_WAIT_MS = 100  # going back waits for the fetch that is under way
_MOST_RECORDS = 500  # at once: other streams have their turn between


class _Newcomer(NamedTuple):
    listener: Listener
    since_ms: int


class PartitionReader:
    """Reads for as long as somebody listens: from the earliest beginning that is wanted, then on with what comes.

    For a newcomer it goes back, and those who were there before hear frames twice, which streams pass over. Whoever
    comes meanwhile waits until it has caught up again, so that a crowd costs two readings and not one each.
    """

    def __init__(self, settings: Settings, at: TopicPartition) -> None:
        self._at = at
        self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        self._by_key: dict[bytes, list[Listener]] = {}
        self._newcomers: list[_Newcomer] = []
        self._catching_up: list[Listener] = []
        self._caught_up_at = 0  # offset
        self._position: int | None = None
        self._news = asyncio.Event()
        self.ended = False

    def add(self, listener: Listener, since_ms: int) -> None:
        self._newcomers.append(_Newcomer(listener, since_ms - _CLOCKS_DIFFER_MS))
        self._news.set()

    def remove(self, listener: Listener) -> None:
        self._newcomers = [newcomer for newcomer in self._newcomers if newcomer.listener is not listener]
        self._catching_up = [other for other in self._catching_up if other is not listener]
        others = [other for other in self._by_key.pop(listener.key, ()) if other is not listener]
        if others:
            self._by_key[listener.key] = others
        self._news.set()

    async def run(self) -> None:
        try:
            await _persist(self._start)
            while self._by_key or self._newcomers:
                await _persist(self._go_on)
        finally:
            self.ended = True
            for listener in [*self._catching_up, *(newcomer.listener for newcomer in self._newcomers)]:
                listener.up_to_date()  # else they would wait for what nobody reads any more
            await self._consumer.stop()

    async def _start(self) -> None:
        await self._consumer.start()
        self._consumer.assign([self._at])
        self._consumer.pause(self._at)  # until it is known from where

    async def _go_on(self) -> None:
        self._news.clear()
        if self._newcomers and not self._catching_up:
            await self._go_back()
        self._deliver(await self._poll())
        if self._caught_up:
            caught_up, self._catching_up = self._catching_up, []
            for listener in caught_up:
                listener.up_to_date()

    @property
    def _caught_up(self) -> bool:
        return self._position is not None and self._position >= self._caught_up_at

    async def _go_back(self) -> None:
        since = min(newcomer.since_ms for newcomer in self._newcomers)
        found = (await self._consumer.offsets_for_times({self._at: since}))[self._at]
        end = (await self._consumer.end_offsets([self._at]))[self._at]
        start = min(found.offset if found else end, end if self._position is None else self._position)
        self._consumer.seek(self._at, start)
        self._consumer.resume(self._at)
        self._position, self._caught_up_at = start, end
        for newcomer in self._newcomers:
            self._by_key.setdefault(newcomer.listener.key, []).append(newcomer.listener)
            self._catching_up.append(newcomer.listener)
        self._newcomers = []

    async def _poll(self) -> list[Any]:
        """What comes next; nothing when somebody comes or goes."""
        if self._catching_up and self._caught_up:
            return []
        polling = asyncio.ensure_future(
            self._consumer.getmany(self._at, timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
        )
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait((polling, news), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            if not polling.done():
                polling.cancel()
        records: list[Any] = polling.result().get(self._at, []) if polling.done() else []
        return records

    def _deliver(self, records: Iterable[Any]) -> None:
        for record in records:
            self._position = record.offset + 1
            listeners = self._by_key.get(record.key)
            if listeners:
                frame = RawFrame(dict(record.headers), record.value or b"")
                if frame.kind == DELTA:
                    for listener in listeners:
                        listener.hear(frame)


async def _persist(step: Callable[[], Awaitable[None]]) -> None:
    """Until Kafka plays along."""
    while True:
        try:
            return await step()
        except KafkaError as error:
            log.warning("frames can't be read again yet", reason=repr(error))
            await asyncio.sleep(RETRY_SECONDS)
