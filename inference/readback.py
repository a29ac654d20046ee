"""Reads frames back from `responses`: what a lost worker had published of the requests that came to this one.

All requests that look into one partition at the same time share one reading of it.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.frames import FrameKind
from contracts.kafka import client_options
from contracts.settings import Settings
from inference.published import Published

log = structlog.get_logger()
_DELTA = FrameKind.DELTA.encode()
_MOST_FRAMES = 500_000  # of a partition; what was published before those is out of reach
_CLOCKS_DIFFER_MS = 60_000  # frames bear their worker's time
_POLL_MS = 1000
_TRIES = 5


@dataclass(slots=True, eq=False)
class _Wanted:
    key: bytes
    claim: bytes
    since: int  # UTC ms
    end: int  # offset
    found: Published = field(default_factory=Published)
    done: "asyncio.Future[Published]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        if record.offset < self.end and headers.get("kind") == _DELTA and headers.get("claim") == self.claim:
            try:
                self.found.add(headers, record.value)
            except (LookupError, TypeError, ValueError):  # whoever wrote that, no client can go on from it
                self.found.unbroken = False

    def settle(self) -> None:
        if not self.done.done():
            self.done.set_result(self.found)


class Readback:
    """One per process; it holds no connection while nobody asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wanted: defaultdict[TopicPartition, list[_Wanted]] = defaultdict(list)
        self._reading: dict[TopicPartition, asyncio.Task[None]] = {}

    async def published(self, at: TopicPartition, end: int, key: bytes, claim: str, since: int) -> Published:
        """What the frames of a claim below the offset `end` add up to; `since` (UTC ms) is before the first of them.
        Nothing, when Kafka can't be read."""
        wanted = _Wanted(key, claim.encode(), since - _CLOCKS_DIFFER_MS, end)
        self._wanted[at].append(wanted)
        if at not in self._reading:
            self._reading[at] = asyncio.create_task(self._read(at))
        return await wanted.done

    async def close(self) -> None:
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    async def _read(self, at: TopicPartition) -> None:
        """Until nobody wants anything of this partition any more."""
        try:
            while wanted := self._wanted.pop(at, None):
                await self._read_for(at, wanted)
        finally:
            del self._reading[at]

    async def _read_for(self, at: TopicPartition, wanted: list[_Wanted]) -> None:
        for _ in range(_TRIES):
            try:
                await self._scan(at, wanted)
                break
            except KafkaError as error:
                log.warning("What was published can't be read yet.", topic=at.topic, error=repr(error))
                for one in wanted:
                    one.found = Published()
                await asyncio.sleep(_POLL_MS / 1000)
        for one in wanted:
            one.settle()

    async def _scan(self, at: TopicPartition, wanted: list[_Wanted]) -> None:
        by_key: defaultdict[bytes | None, list[_Wanted]] = defaultdict(list)
        for one in wanted:
            by_key[one.key].append(one)
        end = max(one.end for one in wanted)
        consumer = AIOKafkaConsumer(
            **client_options(self._settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        async with consumer:
            consumer.assign([at])
            found = (await consumer.offsets_for_times({at: min(one.since for one in wanted)}))[at]
            start = max(found.offset if found else 0, end - _MOST_FRAMES)
            consumer.seek(at, start)
            while await consumer.position(at) < end:
                for record in (await consumer.getmany(at, timeout_ms=_POLL_MS)).get(at, ()):
                    for one in by_key.get(record.key, ()):
                        one.take(record)
