"""Waiting for what another process will make true."""

import asyncio
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.05


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again. Raises TimeoutError past the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await true():  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(POLL_SECONDS)
