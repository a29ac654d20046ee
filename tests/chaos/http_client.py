"""A client over HTTP and WebSocket that does what clients should: tries again, elsewhere, with the same key."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from contracts.errors import StreamDiverged
from tests.chaos.answers import Ask, Deletion, Door, Said, Told
from tests.chaos.heard import CutOff, Heard
from tests.chaos.socket_client import SocketClient
from tests.chaos.trials import CONNECTION, NoStream, Refused, check, has_failed, read_events

TRY_SECONDS = 6  # an ingress that says nothing for so long is given up for another
_PAUSE_SECONDS = 0.2
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=5.0)
_LEAST_AWAY_SECONDS, _MOST_AWAY_SECONDS = 0.3, 6.0
_MOST_EVENTS = 40  # of a connection that is cut
_DELETE_SECONDS = 60.0
_DELETED = {200, 409}

Once = Callable[[str], Awaitable[Said]]


class HttpClient:
    """`secrets` maps a tenant to its API key."""

    def __init__(self, urls: list[str], secrets: dict[str, str]) -> None:
        self._urls = urls
        self._secrets = secrets
        self._rng = random.Random(0)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(TRY_SECONDS, connect=2.0), limits=_LIMITS)
        self._sockets = SocketClient(TRY_SECONDS)

    async def close(self) -> None:
        await self._http.aclose()
        await self._sockets.close()

    async def ask(self, ask: Ask, told: Told) -> Said | None:
        """Until it is answered, or refused for good (None)."""
        if ask.leaves_after is not None and (said := await self._leave(ask, told, ask.leaves_after)):
            return said
        if ask.door in (Door.RESUMED, Door.SOCKET):
            return await self._go_on(ask, told)
        return await self._persist(ask, told, lambda url: self._try(url, ask))

    async def delete(self, key: str) -> Deletion:
        """Cancels, until it is known what came of it."""
        status = 0
        try:
            async with asyncio.timeout(_DELETE_SECONDS):
                while status not in _DELETED:
                    status = await self._delete(key)
        except TimeoutError:
            return Deletion(key, 0)
        return Deletion(key, status)

    async def _delete(self, key: str) -> int:
        tenant, _, name = key.partition(":")
        url = f"{self._rng.choice(self._urls)}/v1/requests/{name}?wait={TRY_SECONDS - 2}"
        try:
            status = (await self._http.delete(url, headers=self._authorization(tenant))).status_code
        except httpx.HTTPError:
            status = 0
        if status not in _DELETED:  # it isn't known yet, or not over yet, or Kafka is away
            await asyncio.sleep(_PAUSE_SECONDS)
        return status

    async def _leave(self, ask: Ask, told: Told, seconds: float) -> Said | None:
        """Tries once, hangs up, and stays away for a while; or it is answered before."""
        try:
            async with asyncio.timeout(seconds):
                return await self._try(self._rng.choice(self._urls), ask)
        except TimeoutError:
            told.left = True
        except (Refused, *CONNECTION, ValueError, LookupError) as error:
            told.trouble(repr(error), failed=has_failed(error))
        await asyncio.sleep(self._rng.uniform(_LEAST_AWAY_SECONDS, _MOST_AWAY_SECONDS))
        return None

    async def _go_on(self, ask: Ask, told: Told) -> Said | None:
        heard = Heard([self._rng.randint(1, _MOST_EVENTS) for _ in range(ask.cuts)])
        try:
            said = await self._persist(ask, told, lambda url: self._connection(url, ask, heard))
        except NoStream as error:
            told.differs = [str(error)]
            return None
        told.differs = heard.faults if said else []
        return said

    async def _connection(self, url: str, ask: Ask, heard: Heard) -> Said:
        """One of several."""
        heard.connect()
        try:
            if ask.door is Door.SOCKET:
                await self._sockets.hear(url, self._authorization(ask.key.partition(":")[0]), ask, heard)
            else:
                async with self._http.stream(**self._question(url, ask, heard)) as answer:
                    await check(answer)
                    await read_events(answer, heard.take)
        except Refused as error:
            if error.code == StreamDiverged.code:
                heard.begin_anew()
            raise
        return heard.end()

    async def _persist(self, ask: Ask, told: Told, once: Once) -> Said | None:
        """None when it is refused for good."""
        first = self._rng.randrange(len(self._urls))
        for attempt in range(10_000):
            try:
                return await once(self._urls[(first + attempt) % len(self._urls)])
            except CutOff:
                told.cuts += 1
                continue
            except (Refused, *CONNECTION, ValueError, LookupError) as error:
                told.trouble(f"{type(error).__name__} {error}", failed=has_failed(error))
                if isinstance(error, Refused) and _is_final(error, ask, told):
                    return None
            await asyncio.sleep(_PAUSE_SECONDS * min(5, 1 + attempt) * self._rng.uniform(0.5, 1.0))
        return None

    async def _try(self, url: str, ask: Ask) -> Said:
        async with self._http.stream(**self._question(url, ask)) as answer:
            await check(answer)
            if ask.door is not Door.STREAMED:
                return Said.of(orjson.loads(await answer.aread()))
            chunks: list[dict[str, Any]] = []
            await read_events(answer, lambda _, chunk: chunks.append(chunk))
            return Said.of_chunks(chunks)

    def _question(self, url: str, ask: Ask, heard: Heard | None = None) -> dict[str, Any]:
        """A stream is gone on with by POST and GET in turn, which is the same."""
        tenant, _, name = ask.key.partition(":")
        headers = self._authorization(tenant) | {"Millrace-On-Disconnect": ask.on_disconnect}
        last_id = heard.last_id if heard else ""
        if last_id:
            headers["Last-Event-ID"] = last_id
        if heard and last_id and heard.connections % 2 == 0:
            events = f"{url}/v1/requests/{name}/events?include_usage=true&wait={TRY_SECONDS - 1}"
            return {"method": "GET", "url": events, "headers": headers}
        headers |= {"Content-Type": "application/json", "Idempotency-Key": name, "Prefer": f"wait={TRY_SECONDS - 1}"}
        return {"method": "POST", "url": f"{url}/v1/chat/completions", "headers": headers, "content": ask.content}

    def _authorization(self, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secrets[tenant]}"}


def _is_final(error: Refused, ask: Ask, told: Told) -> bool:
    told.diverged += error.code == StreamDiverged.code
    if ask.limited and error.by_a_limit:
        told.refused = error.status
        return True
    return error.status not in _AGAIN
