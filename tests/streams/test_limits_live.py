"""A budget for 37 against 200 requests at once, over four ingress and three streams processes: 37 run, whoever dies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from contracts.api_keys import ApiKey, new_api_key
from contracts.bodies import describe
from contracts.errors import StackError
from contracts.limit_usage import MeasureUsage
from contracts.limits import Selector, dollars
from contracts.prices import load_prices
from contracts.settings import Settings
from millrace.limits import ask_usage, set_figures
from millrace.service_process import ServiceProcess
from tests.streams.actors import body
from tests.streams.live import Live, live, running, streams_process
from tests.streams.world import START
from tests.support.ingress import ingress_process, write_key
from tests.support.until import until

pytestmark = pytest.mark.broker
REQUESTS, ROOM = 200, 37
BODY = body()
DEADLINE_SECONDS = 120.0


def reserved() -> int:
    """Nano-dollars that one request reserves."""
    price = load_prices().find("small", "2.5", START)
    assert price is not None
    return price.cost(describe(BODY).digest.prompt_estimate, 0, 10)


class House:
    """Callers around four ingress and three streams processes; the worker holds what it gets until it is told."""

    def __init__(self, settings: Settings, urls: list[str], streams: list[ServiceProcess], around: Live) -> None:
        self.settings = settings
        self.streams = streams
        self.around = around
        self._http = [httpx.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) for url in urls]

    async def close(self) -> None:
        await asyncio.gather(*(http.aclose() for http in self._http))

    async def key_of(self, tenant: str) -> str:
        """An API key that every ingress knows."""
        secret = new_api_key()
        await write_key(self.settings, secret, ApiKey(id=f"key-{tenant}", tenant=tenant, user="ann", created_at=0))

        async def known() -> bool:
            headers = {"Authorization": f"Bearer {secret}"}
            answers = await asyncio.gather(*(http.get("/v1/models", headers=headers) for http in self._http))
            return all(answer.status_code == httpx.codes.OK for answer in answers)

        await until(known)
        return secret

    async def ask(self, secret: str, number: int) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": f"k{number}", "Prefer": "wait=110"}
        http = self._http[number % len(self._http)]
        return await http.post("/v1/chat/completions", content=BODY, headers=headers)

    async def budget(self, tenant: str) -> MeasureUsage:
        """As the meter has it, whoever that is by now."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                try:
                    [account], _ = await ask_usage(self.settings, Selector(tenant, user="ann"))
                except StackError:  # a rebalance is under way
                    continue
                return account.measures.get("dollars_per_day") or MeasureUsage(used=0)

    def held(self, tenant: str) -> set[bytes]:
        return {key for key, _ in self.around._held if key.startswith(f"{tenant}:".encode())}


@pytest.fixture
async def house(settings: Settings, tmp_path: Path) -> AsyncIterator[House]:
    streams = [streams_process(settings, tmp_path, f"streams-{number}") for number in range(3)]
    async with AsyncExitStack() as stack:
        around = await stack.enter_async_context(live(settings))
        around.works = False
        await stack.enter_async_context(running(*streams))
        patient = settings.model_copy(update={"ingress_publish_timeout_ms": 30_000})
        starting = [stack.enter_async_context(ingress_process(patient)) for _ in range(4)]
        started = await asyncio.gather(*starting)
        house = House(settings, [url for url, _ in started], streams, around)
        stack.push_async_callback(house.close)
        yield house


async def nothing(house: House) -> None: ...


async def kill_two(house: House) -> None:
    """One that lives on has to take over; the others come back and have to be given their share again."""
    victims = house.streams[:2]
    for process in victims:
        process.kill()
    for process in victims:
        await process.wait()
    await asyncio.gather(*(process.start() for process in victims))


async def test_37_of_200_run_and_the_budget_is_never_passed(house: House) -> None:
    for tenant, fault in (("calm", nothing), ("storm", kill_two)):
        await crowd(house, tenant, fault)


async def crowd(house: House, tenant: str, fault: Callable[[House], Awaitable[None]]) -> None:
    limit = reserved() * ROOM
    await set_figures(house.settings, Selector(tenant, user="*"), {"dollars_per_day": dollars(limit)})
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await house.budget(tenant)).limit != limit:
            pass
    secret = await house.key_of(tenant)
    asking = [asyncio.create_task(house.ask(secret, number)) for number in range(REQUESTS)]

    def decided() -> int:
        return sum(task.done() for task in asking) + len(house.held(tenant))

    await reaches(decided, 10)
    await fault(house)
    await reaches(decided, REQUESTS)
    assert len(house.held(tenant)) == ROOM
    assert (await house.budget(tenant)).used == limit

    for key in house.held(tenant):
        house.around.finish(await house.around.held(key.decode()))
    answers = await asyncio.gather(*asking)
    assert sorted(answer.status_code for answer in answers) == [200] * ROOM + [429] * (REQUESTS - ROOM)
    assert all("x-ratelimit-remaining-tokens" in answer.headers for answer in answers)
    assert all(int(answer.headers["retry-after-ms"]) > 0 for answer in answers if answer.status_code == 429)

    billed = await settled(house, tenant, ROOM)
    again = await asyncio.gather(*(house.ask(secret, n) for n, answer in enumerate(answers) if answer.is_success))
    assert all(answer.headers.get("idempotent-replayed") == "true" for answer in again)
    assert (await house.budget(tenant)).used == billed <= limit


async def settled(house: House, tenant: str, count: int) -> int:
    """Nano-dollars that are billed for so many requests, once the meter has heard of them all."""
    price = load_prices().find("small", "2.5", START)
    assert price is not None
    billed = price.cost(7, 0, 5) * count
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await house.budget(tenant)).used != billed:
            pass
    return billed


async def reaches(count: Callable[[], int], wanted: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while count() < wanted:  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.05)
