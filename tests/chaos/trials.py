"""How a try may end without an answer, over HTTP and WebSocket, and whose fault that is."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import orjson

from contracts.errors import StillRunning

CONNECTION = (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError)
_NOBODY_LISTENS = (httpx.ConnectError, aiohttp.ClientConnectorError)
_TOO_LATE = (httpx.TimeoutException, TimeoutError)
_LIMITED = (400, 429)  # what a limit says

Take = Callable[[str, dict[str, Any]], None]  # an event's id, and its chunk


class Refused(Exception):  # noqa: N818 - what a server says is no error of ours
    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status} {str(error.get('message'))[:150]}")
        self.status = StillRunning.status if error.get("code") == StillRunning.code else status
        self.code = error.get("code")

    @property
    def by_a_limit(self) -> bool:
        return self.status in _LIMITED and self.code in ("rate_limit_exceeded", "request_exceeds_limit")


class NoStream(Exception):  # noqa: N818
    """What was heard, up to its end, is no whole stream."""


def has_failed(error: BaseException) -> bool:
    """Not where nobody listened, and the client goes elsewhere; nor where its own patience ended, or a limit's did."""
    if isinstance(error, Refused):
        return error.status != StillRunning.status and not error.by_a_limit
    return not isinstance(error, (*_NOBODY_LISTENS, *_TOO_LATE))


async def check(answer: httpx.Response) -> None:
    """Raises Refused unless it is an answer."""
    if answer.status_code != httpx.codes.OK:
        raise refusal(answer.status_code, await answer.aread())


def refusal(status: int, body: bytes) -> Refused:
    try:
        error = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {"message": body.decode(errors="replace")}
    return Refused(status, error)


async def read_events(answer: httpx.Response, take: Take) -> None:
    """Up to [DONE]. An end without it is a try that failed; so is an error event: Refused."""
    event_id = ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif value == "[DONE]":
            return
        elif name == "data":
            chunk = orjson.loads(value)
            if "error" in chunk:
                raise Refused(httpx.codes.BAD_GATEWAY, chunk["error"])
            take(event_id, chunk)
    raise httpx.RemoteProtocolError("the stream ended early")


async def closed(session: aiohttp.ClientSession) -> None:
    """Its connections, too, a moment later."""
    await session.close()
    await asyncio.sleep(0)
