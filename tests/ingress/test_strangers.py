"""Another tenant's key is nobody's, by whichever door somebody asks for it."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from contracts.api_keys import ApiKey
from contracts.settings import Settings
from tests.ingress.conftest import LIMITS
from tests.ingress.test_resume import chat, events, id_of
from tests.ingress.test_websocket import connected
from tests.support.ingress import CHAT, Api, add_key, memory_api

KEY = "order-42"


@pytest.fixture
async def stranger() -> AsyncIterator[Api]:
    """Of an ingress where acme's stream KEY has ended."""
    async with memory_api(Settings(**LIMITS)) as (api, gateway):
        async with api.http(**{"Idempotency-Key": KEY}) as http:
            assert (await http.post(CHAT, content=chat())).status_code == 200
        yield replace(api, secret=add_key(gateway, ApiKey(id="k2", tenant="globex", created_at=0)))
        asked = [asked.key for asked in api.pipeline.asked]
        assert (asked[0], set(asked[1:])) == (f"acme:{KEY}".encode(), {f"globex:{KEY}".encode()})
        assert len(api.pipeline.runs) == 1


async def test_over_http(stranger: Api) -> None:
    async with stranger.http() as http:
        answers = [
            await http.get(f"/v1/requests/{KEY}"),
            await http.get(f"/v1/requests/{KEY}?wait=5"),
            await http.get(f"/v1/requests/{KEY}/events"),
            await http.delete(f"/v1/requests/{KEY}"),
            await http.post(CHAT, content=chat(), headers={"Idempotency-Key": KEY, "Last-Event-ID": await last_id()}),
        ]
    told = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
    assert told == [(404, "request_not_found")] * 5


async def last_id() -> str:
    """Of such a stream, had they got hold of one."""
    async with memory_api(Settings(**LIMITS)) as (api, _), api.http() as http:
        return id_of(events(await http.post(CHAT, content=chat()))[0])


async def test_over_a_websocket(stranger: Api) -> None:
    async with connected(stranger) as client:
        for kind in ("follow", "cancel"):
            await client.say(type=kind, ref=kind, key=KEY)
            assert [said["status"] for said in await client.end(kind)] == [404]
