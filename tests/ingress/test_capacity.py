"""What ingress tells of waits, and what it turns away without asking anybody."""

from dataclasses import dataclass

import pytest

from contracts.bodies import describe
from contracts.catalogue import load_catalogue
from contracts.errors import NoWorker, OverCapacity
from contracts.keys import RequestKey
from contracts.settings import Settings
from contracts.workers import STALE_MS, LaneLoad
from ingress import capacity
from ingress.capacity import Capacity, Expected
from tests.support.loads import beat, lane, record

NOW = 1_790_000_000_000
KEY = RequestKey("acme", "k1")
ASKED = describe(b'{"model": "small", "messages": [{"role": "user", "content": "hi"}]}').digest
HEADERS = {"lane": b"interactive"}


@dataclass
class Record:
    key: bytes
    value: bytes


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "now_ms", lambda: NOW)


def known(at: int = NOW, settings: Settings | None = None, **models: LaneLoad) -> Capacity:
    found = Capacity(settings or Settings(), load_catalogue())
    if models:
        found.apply([Record(*record(beat(at, **models)))])
    return found


def by(ms: int) -> dict[str, bytes]:
    return HEADERS | {"deadline": str(NOW + ms).encode()}


def test_before_any_beat_nothing_is_told_and_nothing_is_turned_away() -> None:
    assert known().expect(KEY, "small", HEADERS) == Expected(None, None)
    known().check(KEY, ASKED, by(0))


def test_a_named_models_queue_is_told() -> None:
    house = known(small=lane(4), large=lane())
    assert house.expect(KEY, "small", HEADERS) == Expected(4, NOW + 1250)
    assert house.expect(KEY, "large", HEADERS) == Expected(0, NOW)
    assert house.expect(KEY, "small", {"lane": b"batch"}) == Expected(0, NOW)


def test_where_the_router_will_choose_only_an_idle_house_is_told() -> None:
    assert known(small=lane(), large=lane()).expect(KEY, "auto", HEADERS) == Expected(0, NOW)
    assert known(small=lane(4), large=lane()).expect(KEY, "auto", HEADERS) == Expected(None, None)


def test_what_no_model_could_start_in_time_is_turned_away() -> None:
    busy = known(small=lane(8), large=lane(4))
    with pytest.raises(OverCapacity) as refused:
        busy.check(KEY, ASKED, by(1000))
    assert (refused.value.status, refused.value.retry_after) == (529, 0.25)
    busy.check(KEY, ASKED, by(1250))  # large could, if a policy sends it there
    busy.check(KEY, ASKED, HEADERS)
    busy.check(KEY, ASKED, by(-1))  # nobody's fault


def test_without_any_worker_a_near_deadline_is_503() -> None:
    dead = known(NOW - STALE_MS - 1, small=lane(), large=lane())
    with pytest.raises(NoWorker) as refused:
        dead.check(KEY, ASKED, by(10_000))
    assert (refused.value.status, refused.value.retry_after) == (503, 20.0)
    dead.check(KEY, ASKED, by(30_000))
    dead.check(KEY, ASKED, HEADERS)


def test_the_usual_deadline_is_for_interactive_requests() -> None:
    busy = known(settings=Settings(interactive_deadline_seconds=1), small=lane(8), large=lane(8))
    with pytest.raises(OverCapacity):
        busy.check(KEY, ASKED, HEADERS)
    busy.check(KEY, ASKED, {"lane": b"batch"})
