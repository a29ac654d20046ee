"""Waiting for what another process does, where nothing tells us when it is done."""

import asyncio
from collections.abc import Awaitable, Callable

_POLL_SECONDS = 0.05


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Returns once `check` is true; the caller sets the deadline (`asyncio.timeout`)."""
    while not await check():  # noqa: ASYNC110 - other processes set no event of ours
        await asyncio.sleep(_POLL_SECONDS)
