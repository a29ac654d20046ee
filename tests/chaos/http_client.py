"""A client over HTTP that does what clients should: tries again, elsewhere, with the same key."""

import asyncio
import random
from typing import Any

import httpx
import orjson

from contracts.errors import StillRunning
from tests.chaos.answers import Ask, Door, Said, Told

TRY_SECONDS = 6  # an ingress that says nothing for so long is given up for another
_PAUSE_SECONDS = 0.2
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=5.0)


class HttpClient:
    """`secrets` maps a tenant to its API key."""

    def __init__(self, urls: list[str], secrets: dict[str, str]) -> None:
        self._urls = urls
        self._secrets = secrets
        self._rng = random.Random(0)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(TRY_SECONDS, connect=2.0), limits=_LIMITS)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, ask: Ask, told: Told) -> Said | None:
        """Until it is answered, or refused for good (None)."""
        first = self._rng.randrange(len(self._urls))
        for attempt in range(10_000):
            url = self._urls[(first + attempt) % len(self._urls)]
            try:
                return await self._try(url, ask)
            except (_Refused, httpx.HTTPError, KeyError, IndexError, ValueError) as error:
                told.trouble(f"{type(error).__name__} {error}", failed=_failed(error))
                if isinstance(error, _Refused) and error.status not in _AGAIN:
                    return None
            await asyncio.sleep(_PAUSE_SECONDS * min(5, 1 + attempt) * self._rng.uniform(0.5, 1.0))
        return None

    async def _try(self, url: str, ask: Ask) -> Said:
        tenant, _, key = ask.key.partition(":")
        headers = {
            "Authorization": f"Bearer {self._secrets[tenant]}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "Prefer": f"wait={TRY_SECONDS - 1}",
        }
        async with self._http.stream(
            "POST", f"{url}/v1/chat/completions", content=ask.content, headers=headers
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _Refused(answer.status_code, await answer.aread())
            if ask.door is Door.STREAMED:
                return Said.of_chunks(await _chunks(answer))
            return Said.of(orjson.loads(await answer.aread()))


class _Refused(Exception):  # noqa: N818
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:150].decode(errors='replace')}")
        self.status = status


def _failed(error: Exception) -> bool:
    """Not where nobody listened, and the client goes elsewhere; nor where its own patience ended."""
    if isinstance(error, _Refused):
        return error.status != httpx.codes.GATEWAY_TIMEOUT
    return not isinstance(error, httpx.ConnectError | httpx.TimeoutException)


async def _chunks(answer: httpx.Response) -> list[dict[str, Any]]:
    """Up to [DONE]. An error event, or an end without it, is a try that failed."""
    chunks: list[dict[str, Any]] = []
    async for line in answer.aiter_lines():
        if line == "data: [DONE]":
            return chunks
        if line.startswith("data: "):
            chunks.append(orjson.loads(line[6:]))
            if error := chunks[-1].get("error"):
                waited = error.get("code") == StillRunning.code
                raise _Refused(StillRunning.status if waited else httpx.codes.BAD_GATEWAY, line.encode())
    raise httpx.RemoteProtocolError("the stream ended early")
