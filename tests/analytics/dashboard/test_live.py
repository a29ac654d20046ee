"""Live updates: rows in the ledger are news, operators' news is nobody else's, and streams end when they should."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from analytics.dashboard.service import hear
from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.api_keys import hash_api_key
from contracts.keyring import KeyRing
from contracts.settings import Settings
from tests.support.demo_dashboard import ACME, OPERATOR, serving_demo, signed_in
from tests.support.usage import as_records, as_values, make_events

DEADLINE_SECONDS = 60.0


@asynccontextmanager
async def events_of(client: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[str]]:
    """Names of events, as they come."""
    async with client.stream("GET", "/api/live") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield (line.removeprefix("event: ") async for line in response.aiter_lines() if line.startswith("event: "))


async def until(events: AsyncIterator[str], name: str) -> list[str]:
    """What came before it."""
    before = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for event in events:
            if event == name:
                return before
            before.append(event)
    raise AssertionError(f"the stream ended before {name}")


async def test_new_rows_are_told_to_every_page(embedded: Settings, ledger: Ledger) -> None:
    async with (
        serving_demo(embedded) as url,
        signed_in(url, OPERATOR) as one,
        signed_in(url, ACME) as other,
        events_of(one) as told,
        events_of(other) as told_other,
    ):
        await until(told, "ledger")  # how things stand
        await until(told_other, "ledger")
        await asyncio.to_thread(take_in, ledger, as_records(as_values(make_events(3))))
        await until(told, "ledger")
        assert "flow" not in await until(told_other, "ledger")


async def test_the_flow_is_told_to_operators(demo_dashboard: str) -> None:
    async with signed_in(demo_dashboard, OPERATOR) as client, events_of(client) as told:
        await until(told, "flow")


async def test_a_revoked_keys_stream_ends(embedded: Settings, ledger: Ledger) -> None:
    ring = KeyRing()
    async with serving_demo(embedded, ring=ring) as url, signed_in(url, ACME) as client, events_of(client) as told:
        await until(told, "ledger")
        hear(ring, [(hash_api_key(ACME), None)])
        await asyncio.to_thread(take_in, ledger, as_records(as_values(make_events(3))))
        await until(told, "signed-out")


async def test_an_open_page_doesnt_hold_up_the_end(demo: object, demo_settings: Settings) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), AsyncExitStack() as after, serving_demo(demo_settings) as url:
        client = await after.enter_async_context(signed_in(url, OPERATOR))
        told = await after.enter_async_context(events_of(client))
        await until(told, "ledger")
