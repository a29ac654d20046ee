"""Keeps the policy as `limits` has it: read before the first decision, then each change as it comes."""

import asyncio
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts.kafka import client_options
from contracts.limits import Limit
from contracts.settings import Settings
from contracts.topics import Topics
from streams.limits.policy import Policy

_RETRY_SECONDS = 1.0
_POLL_MS = 60_000
_log = structlog.get_logger()


def default_policy(settings: Settings) -> Policy:
    """Of a tenant that nobody has set limits for."""
    return Policy(Limit(tokens_per_minute=settings.tokens_per_minute, requests_per_minute=settings.requests_per_minute))


class Follower:
    """An async context manager: inside it the policy is up to date."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._policy = policy
        self._at = TopicPartition(Topics.of(settings).limits, 0)
        self._consumer = AIOKafkaConsumer(
            **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign([self._at])
        await self._consumer.seek_to_beginning(self._at)
        end = (await self._consumer.end_offsets([self._at]))[self._at]
        while await self._consumer.position(self._at) < end:
            await self._poll()
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._following:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._consumer.stop()

    async def _follow(self) -> None:
        """The client reconnects by itself; the limits that were known hold meanwhile."""
        while True:
            try:
                await self._poll()
            except KafkaError as error:
                _log.warning("limits can't be read", reason=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _poll(self) -> None:
        batches: dict[TopicPartition, list[Any]] = await self._consumer.getmany(timeout_ms=_POLL_MS)
        for records in batches.values():
            self._policy.apply((record.key, record.value) for record in records)
            _log.info("limits changed", records=len(records))
