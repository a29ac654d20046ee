"""Streams over a WebSocket of their own."""

import aiohttp
import orjson

from tests.chaos.answers import Ask
from tests.chaos.heard import Heard
from tests.chaos.trials import Refused

_TEXT = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


class SocketClient:
    """`silence_seconds`: an ingress that says nothing for so long is given up for another."""

    def __init__(self, silence_seconds: float) -> None:
        self._silence_seconds = silence_seconds
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def hear(self, url: str, headers: dict[str, str], ask: Ask, heard: Heard) -> None:
        """One connection, up to the stream's end. Raises Refused, CutOff, and what aiohttp raises."""
        self._session = self._session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        timeout = aiohttp.ClientWSTimeout(ws_receive=self._silence_seconds, ws_close=1.0)
        async with self._session.ws_connect(f"{url}/v1/ws", headers=headers, timeout=timeout) as socket:
            await socket.send_bytes(orjson.dumps(_wish(ask, heard)))
            while (message := await socket.receive()).type in _TEXT:
                for line in message.data.splitlines():
                    if _take(orjson.loads(line), heard):
                        return
        raise aiohttp.ServerDisconnectedError("the connection ended early")


def _wish(ask: Ask, heard: Heard) -> dict[str, object]:
    name = ask.key.partition(":")[2]
    if heard.last_id:
        return {"type": "follow", "ref": "a", "key": name, "after": heard.last_id, "include_usage": True}
    headers = {"Millrace-On-Disconnect": ask.on_disconnect}
    return {"type": "create", "ref": "a", "key": name, "body": ask.streamed_body, "headers": headers}


def _take(message: dict[str, object], heard: Heard) -> bool:
    """Whether that was all."""
    if message["type"] == "error":
        raise Refused(message["status"], message["error"])  # type: ignore[arg-type]
    if message["type"] == "chunk":
        heard.take(message["id"], message["chunk"])  # type: ignore[arg-type]
    return message["type"] == "done"
