"""Reads back what a lost worker had written of the requests that came to this one: frames on `responses`, and whether
it had handed one on, on `completions`.

All requests that look into one partition at the same time share one reading of it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.completion import ESCALATED
from contracts.envelope import Claim, Work
from contracts.frames import FrameKind
from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import Topics
from inference.published import Published

log = structlog.get_logger()
_DELTA = FrameKind.DELTA.encode()
_ESCALATED = ESCALATED.encode()
_MOST_FRAMES = 500_000  # of a partition; what was published before those is out of reach
_CLOCKS_DIFFER_MS = 60_000  # frames bear their worker's time
_POLL_MS = 1000
_TRIES = 5


class _Sought(Protocol):
    def take(self, record: ConsumerRecord) -> None:
        """A record of its key."""


class _Frames:
    """Those of a claim below an offset."""

    def __init__(self, claim: bytes, end: int) -> None:
        self._claim = claim
        self._end = end
        self.found = Published()

    def take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        if record.offset < self._end and headers.get("kind") == _DELTA and headers.get("claim") == self._claim:
            try:
                self.found.add(headers, record.value)
            except (LookupError, TypeError, ValueError):  # whoever wrote that, no client can go on from it
                self.found.unbroken = False


class _Escalation:
    """Of a claim."""

    def __init__(self, claim: bytes) -> None:
        self._claim = claim
        self.found = False

    def take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        self.found |= headers.get("outcome") == _ESCALATED and headers.get("claim") == self._claim


@dataclass(slots=True, eq=False)
class _Wanted:
    key: bytes
    since: int  # UTC ms
    end: int | None  # offset; all that is there by now, when None
    begin: Callable[[], _Sought]  # anew, when a reading failed
    sought: _Sought = field(init=False)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.sought = self.begin()


class Readback:
    """One per process; it holds no connection while nobody asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._completions = Topics.of(settings).completions
        self._wanted: defaultdict[TopicPartition, list[_Wanted]] = defaultdict(list)
        self._reading: dict[TopicPartition, asyncio.Task[None]] = {}

    async def published(self, at: TopicPartition, end: int, key: bytes, claim: str, since: int) -> Published:
        """What the frames of a claim below the offset `end` add up to; `since` (UTC ms) is before the first of them.
        Nothing, when Kafka can't be read."""
        sought = await self._find(at, key, since, lambda: _Frames(claim.encode(), end), end)
        return sought.found if isinstance(sought, _Frames) else Published()

    async def escalated(self, key: bytes, work: Work) -> bool:
        """Whether an earlier run of this attempt has handed the request on to the next model. The claim's partition is
        that of the key on `completions` as well."""
        at = TopicPartition(self._completions, Claim.parse(work.claim).partition)
        since = min(work.admitted_at, work.accepted_at)
        sought = await self._find(at, key, since, lambda: _Escalation(work.claim.encode()))
        return isinstance(sought, _Escalation) and sought.found

    async def close(self) -> None:
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    async def _find(
        self, at: TopicPartition, key: bytes, since: int, begin: Callable[[], _Sought], end: int | None = None
    ) -> _Sought:
        wanted = _Wanted(key, since - _CLOCKS_DIFFER_MS, end, begin)
        self._wanted[at].append(wanted)
        if at not in self._reading:
            self._reading[at] = asyncio.create_task(self._read(at))
        await wanted.over.wait()
        return wanted.sought

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
                    one.sought = one.begin()
                await asyncio.sleep(_POLL_MS / 1000)
        for one in wanted:
            one.over.set()

    async def _scan(self, at: TopicPartition, wanted: list[_Wanted]) -> None:
        by_key: defaultdict[bytes | None, list[_Wanted]] = defaultdict(list)
        for one in wanted:
            by_key[one.key].append(one)
        consumer = AIOKafkaConsumer(
            **client_options(self._settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        async with consumer:
            consumer.assign([at])
            ends = [one.end for one in wanted if one.end is not None]
            end = max(ends) if len(ends) == len(wanted) else (await consumer.end_offsets([at]))[at]
            found = (await consumer.offsets_for_times({at: min(one.since for one in wanted)}))[at]
            start = max(found.offset if found else end, end - _MOST_FRAMES)
            consumer.seek(at, start)
            while await consumer.position(at) < end:
                for record in (await consumer.getmany(at, timeout_ms=_POLL_MS)).get(at, ()):
                    for one in by_key.get(record.key, ()):
                        one.sought.take(record)
