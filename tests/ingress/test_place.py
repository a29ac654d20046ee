"""What callers are told of the queue over HTTP: their place in it, and that it is too long for them."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from contracts.frames import Frame, FrameKind
from contracts.headers import RawHeaders
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.workers import STALE_MS, LaneLoad
from ingress import capacity, place
from ingress.gateway import Gateway
from tests.ingress.conftest import LIMITS
from tests.support.ingress import CHAT, Api, MemoryLog, Record, chat, memory_api
from tests.support.loads import beat, lane, record

CLAIM = "3.17"
LONG = 80_000  # requests: hours


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> int:
    """UTC ms. It stays: beats don't grow stale, and whoever is asked has all the time that it needs."""
    now = time.time_ns() // 1_000_000
    for module in (capacity, place):
        monkeypatch.setattr(module, "now_ms", lambda: now)
    monkeypatch.setattr(place, "_PATIENCE_SECONDS", 30)
    return now


@pytest.fixture
async def served() -> AsyncIterator[tuple[Api, Gateway]]:
    async with memory_api(Settings(**LIMITS)) as served:
        yield served


@pytest.fixture
async def http(served: tuple[Api, Gateway]) -> AsyncIterator[httpx.AsyncClient]:
    async with served[0].http() as http:
        yield http


def hear(gateway: Gateway, at: int, **models: LaneLoad) -> None:
    gateway.capacity.apply([Record(*record(beat(at, **models)), [])])


class Owner(MemoryLog):
    """Plays the owner of the key, who knows its claim, and the worker that has that."""

    def __init__(self, gateway: Gateway, starts_at: int) -> None:
        super().__init__()
        self._gateway = gateway
        self._starts_at = starts_at

    async def append(self, key: bytes, value: bytes, headers: RawHeaders, topic: str | None = None) -> None:
        asked = {name: text.decode() for name, text in headers}
        if topic is None:
            frame, value = Frame(kind=FrameKind.STATE, claim=CLAIM), b'{"status":"in_progress"}'
        else:
            assert (topic, asked["claim"]) == (Topics.of(self._gateway.settings).control, CLAIM)
            frame = Frame(kind=FrameKind.PLACE, queue_position=4, estimated_start=self._starts_at)
        told = frame.model_copy(update={"in_reply_to": asked["ce_id"]})
        self._gateway.calls.dispatch([Record(key, value, told.to_headers())])


async def test_a_202_tells_it_by_the_last_beats(served: tuple[Api, Gateway], http: httpx.AsyncClient, now: int) -> None:
    hear(served[1], now, small=lane(4), large=lane())
    answer = await http.post(CHAT, content=chat(), headers={"Prefer": "respond-async"})
    state = answer.json()
    assert (answer.status_code, state["queue_position"], state["estimated_start_at"]) == (202, 4, now + 1250)


async def test_a_get_tells_it_by_the_worker_that_has_the_request(
    served: tuple[Api, Gateway], http: httpx.AsyncClient, now: int
) -> None:
    _, gateway = served
    gateway.log = Owner(gateway, now + 9000)
    hear(gateway, now, small=lane(4))
    state = (await http.get("/v1/requests/k")).json()
    assert state == {"status": "in_progress", "queue_position": 4, "estimated_start_at": now + 9000}


async def test_where_no_worker_lives_nobody_is_asked(
    served: tuple[Api, Gateway], http: httpx.AsyncClient, now: int
) -> None:
    _, gateway = served
    gateway.log = Owner(gateway, now)
    hear(gateway, now - STALE_MS - 1, small=lane(4))
    assert (await http.get("/v1/requests/k")).json()["queue_position"] is None


@pytest.mark.parametrize(("age_ms", "status", "code"), [(0, 529, "over_capacity"), (STALE_MS + 1, 503, "no_worker")])
async def test_what_nobody_could_start_in_time_is_turned_away_before_the_log(
    served: tuple[Api, Gateway], http: httpx.AsyncClient, now: int, age_ms: int, status: int, code: str
) -> None:
    api, gateway = served
    hear(gateway, now - age_ms, small=lane(LONG), large=lane(LONG))
    deadline = {"Millrace-Deadline": datetime.fromtimestamp(now / 1000 + 10, UTC).isoformat()}
    refused = await http.post(CHAT, content=chat(), headers=deadline)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert int(refused.headers["retry-after"]) > 0
    assert not api.pipeline.asked
    named = await http.post(CHAT, content=chat(), headers=deadline | {"Idempotency-Key": "may-have-its-answer"})
    assert named.status_code == 200
