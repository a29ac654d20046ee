"""Waiting that ends with the service."""

import asyncio


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """That long, or until `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
