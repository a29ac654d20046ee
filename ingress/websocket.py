"""`/v1/ws`: many requests over one connection. The protocol is in docs/streaming.md and contracts/websocket.py."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import structlog
from pydantic import ValidationError
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts.errors import InvalidRequest, MillraceError, RateLimited, Unauthorized
from contracts.faults import invalid
from contracts.websocket import Cancel, ClientMessage, Create, Follow, Leave
from ingress.gateway import Gateway
from ingress.metrics import websockets
from ingress.ws_door import Door
from ingress.ws_streams import WsStreams, refusal

log = structlog.get_logger()

_GOING_AWAY = 1001
_FIRST_WORD_SECONDS = 2.0  # for a client that had just connected when this process was told to stop


async def websocket(connection: WebSocket) -> None:
    gateway: Gateway = connection.app.state.gateway
    try:
        caller = gateway.keyring.authenticate(connection.headers.get("authorization", "").encode("latin-1"))
    except Unauthorized as error:
        headers = {"content-type": "application/json", "www-authenticate": "Bearer"}
        await connection.send_denial_response(Response(error.body(), error.status, headers))
        return
    await connection.accept()
    door = Door(connection)
    with websockets.track_inprogress():
        await _Session(gateway, connection, door, WsStreams(gateway, caller, door)).run()


class _Session:
    """One connection: its tasks live as long as it does."""

    def __init__(self, gateway: Gateway, connection: WebSocket, door: Door, streams: WsStreams) -> None:
        self._gateway = gateway
        self._connection = connection
        self._door = door
        self._streams = streams
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._spoken_to = asyncio.Event()

    async def run(self) -> None:
        leaving = asyncio.create_task(self._leave())
        try:
            while (message := await self._connection.receive())["type"] != "websocket.disconnect":
                self._spoken_to.set()
                await self._take(message.get("text") or message.get("bytes") or b"")
        except WebSocketDisconnect:
            pass
        finally:
            tasks = [leaving, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self) -> None:
        """When this process is told to stop: what goes on over the connection ends first, as all calls do."""
        await self._gateway.draining.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._spoken_to.wait(), _FIRST_WORD_SECONDS)
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        await self._connection.close(_GOING_AWAY)

    async def _take(self, text: str | bytes) -> None:
        try:
            message = ClientMessage.model_validate_json(text).root
        except ValidationError as error:
            await self._door.say(refusal("", invalid(error, whole="The message")))
            return
        if isinstance(message, Leave):
            if task := self._tasks.get(message.ref):
                task.cancel()
                await asyncio.wait({task})
        elif message.ref in self._tasks:
            await self._door.say(refusal(message.ref, InvalidRequest("This ref is in use.", param="ref")))
        elif len(self._tasks) >= self._gateway.settings.ingress_ws_max_streams:
            await self._door.say(
                refusal(message.ref, RateLimited("Too many streams on this connection: open another."))
            )
        else:
            self._begin(message)

    def _begin(self, message: Create | Follow | Cancel) -> None:
        doing: Coroutine[Any, Any, None]
        if isinstance(message, Create):
            doing = self._streams.create(message)
        elif isinstance(message, Follow):
            doing = self._streams.follow(message)
        else:
            doing = self._streams.cancel(message)
        given = message.headers if isinstance(message, Create) else {}
        headers = {name.lower().encode(): value.encode() for name, value in given.items()}
        self._tasks[message.ref] = asyncio.create_task(self._run(message.ref, doing, headers))

    def _span(self, headers: dict[bytes, bytes]) -> AbstractContextManager[object]:
        spans = self._gateway.spans
        return spans.call("WS /v1/ws", headers) if spans else nullcontext()

    async def _run(self, ref: str, doing: Coroutine[Any, Any, None], headers: dict[bytes, bytes]) -> None:
        try:
            with self._span(headers):
                await doing
        except WebSocketDisconnect:
            pass
        except MillraceError as error:
            await self._say(refusal(ref, error))
        except Exception:
            log.exception("unhandled error", path="/v1/ws")
            await self._say(refusal(ref, MillraceError("The server had an error; its log says more.")))
        finally:
            self._tasks.pop(ref, None)

    async def _say(self, lines: bytes) -> None:
        try:
            await self._door.say(lines)
        except WebSocketDisconnect:
            log.debug("a client left before it was answered")
