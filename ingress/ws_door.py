"""The one way out of a WebSocket: who has something to say waits until the client has taken what was said before."""

import asyncio

from starlette.websockets import WebSocket


class Door:
    """In the order of asking, so that a stream with much to say doesn't keep the others from the client."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._one_at_a_time = asyncio.Lock()

    async def say(self, lines: bytes) -> None:
        """Raises WebSocketDisconnect when nobody is there any more."""
        async with self._one_at_a_time:
            await self._websocket.send_text(lines[:-1].decode())
