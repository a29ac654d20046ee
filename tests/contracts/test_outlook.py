"""What beats tell of waits, and whom nobody believes."""

import heapq
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.outlook import Outlook, Sent
from contracts.waits import tokens_ahead, until_start_ms
from contracts.workers import STALE_MS, Beat, LaneLoad, ModelLoad, Queued

NOW = 1_790_000_000_000


def lane(**fields: Any) -> LaneLoad:
    """Four places, full, a request of 100 tokens taking a second; one place becomes free each quarter of it."""
    full = {"running": 4, "places": 4, "frees_ms": (250, 500, 750, 1000), "mean_tokens": 100, "ms_per_token": 10.0}
    return LaneLoad(**{"lane": "interactive", "positions": {0: 0, 1: 0}, **full, **fields})


def queued(requests: int, tokens: int = 100, **fields: Any) -> LaneLoad:
    waiting = {"waiting": requests, "queued_tokens": requests * tokens}
    return lane(**waiting, **{"tenants": {"acme": Queued(requests * tokens, 1.0)}, **fields})


def beat(worker: str = "w", at: int = NOW, load: LaneLoad | None = None, generation: int = 1) -> Beat:
    model = ModelLoad(model="small", engine="synthetic", generation=generation, room=4, lanes=(load or lane(),))
    return Beat(worker=worker, at=at, started_at=NOW, version="0", models=(model,))


def heard(*beats: Beat) -> Outlook:
    outlook = Outlook()
    outlook.apply([(one.worker.encode(), one.model_dump_json().encode()) for one in beats])
    return outlook


def ms(outlook: Outlook, tenant: str = "acme", now: int = NOW, partition: int = 0) -> int | None:
    wait = outlook.wait("small", "interactive", partition, tenant, now)
    return wait.ms if wait else None


def test_a_free_place_is_no_wait() -> None:
    assert until_start_ms(lane(running=3, frees_ms=(0, 250, 500, 750)), 0) == 0


def test_places_become_free_one_by_one_and_then_again_a_round_later() -> None:
    assert [until_start_ms(queued(n), n * 100) for n in range(6)] == [250, 500, 750, 1000, 1250, 1500]


def test_without_a_known_pace_only_free_places_can_be_told() -> None:
    idle = lane(running=0, frees_ms=(0, 0, 0, 0), ms_per_token=None, mean_tokens=0)
    assert until_start_ms(idle, 3) == 0
    assert until_start_ms(idle, 400) is None


def test_what_a_tenant_waits_for_is_its_own_work_and_as_much_of_others() -> None:
    tenants = {"big": Queued(10_000, 1.0), "small": Queued(200, 1.0), "gold": Queued(10_000, 3.0)}
    load = lane(waiting=202, queued_tokens=20_200, tenants=tenants)
    assert tokens_ahead(load, "new", {}) == 0
    assert tokens_ahead(load, "small", {}) == 200 + 200 + 600
    assert tokens_ahead(load, "big", {}) == 10_000 + 200 + 10_000
    assert tokens_ahead(load, "new", {"new": 100}) == 100 + 100 + 100 + 300


def test_work_that_comes_all_at_once_starts_in_waves() -> None:
    """Each takes half to one and a half seconds; what really happens is played with others than the told ones."""
    places, chance = 64, random.Random(1)
    frees = [0.0] * places
    spread = tuple(0.5 + number / 16 for number in range(17))
    load = lane(running=0, places=places, frees_ms=(0,) * 17, spread=spread)
    errors = []
    for number in range(600):
        start = heapq.heappop(frees)
        heapq.heappush(frees, start + chance.uniform(500, 1500))
        told = until_start_ms(load, number * 100)
        assert told is not None
        assert (told == 0) == (start == 0)
        if start:
            errors.append(abs(told - start) / start)
    assert sorted(errors)[len(errors) * 9 // 10] < 0.15


@given(
    st.integers(0, 2000), st.integers(0, 500), st.integers(1, 200), st.lists(st.floats(0.1, 5), max_size=17).map(sorted)
)
def test_more_ahead_is_never_a_shorter_wait(one: int, more: int, places: int, spread: list[float]) -> None:
    frees = tuple(range(10, 10 + min(places, 17)))
    load = queued(1, places=places, running=places, frees_ms=frees, spread=tuple(spread))
    first, second = until_start_ms(load, one), until_start_ms(load, one + more)
    assert first is not None
    assert second is not None
    assert second >= first


def test_nobody_who_was_ever_heard_is_not_nobody_who_lives() -> None:
    assert Outlook().serves("small", NOW) is None
    outlook = heard(beat())
    assert outlook.serves("small", NOW) is True
    assert outlook.serves("large", NOW) is False
    assert outlook.serves("small", NOW + STALE_MS + 1) is False
    assert ms(outlook, now=NOW + STALE_MS + 1) is None


def test_a_tombstone_ends_a_worker() -> None:
    outlook = heard(beat())
    outlook.apply([(b"w", None)])
    assert outlook.serves("small", NOW) is False


def test_a_zombies_beat_is_not_believed() -> None:
    """It slept with a beat half sent; when it wakes, somebody else has its partitions."""
    outlook = heard(beat("new", load=queued(4), generation=7), beat("old", at=NOW - STALE_MS - 1, load=lane()))
    assert ms(outlook) == 1250
    outlook = heard(beat("new", load=queued(4), generation=7), beat("old", at=NOW + 10, load=lane(), generation=6))
    assert ms(outlook) == 1250
    assert len(outlook.live(NOW)) == 2


def test_an_older_beat_does_not_replace_a_newer_one() -> None:
    assert ms(heard(beat(load=queued(4)), beat(at=NOW - 500))) == 1250


def test_time_passes_between_beats() -> None:
    outlook = heard(beat(load=queued(4)))
    assert ms(outlook, now=NOW + 700) == 550
    assert ms(outlook, now=NOW + 4000) == 0


def test_an_idle_engine_gains_nothing_by_the_time_before_work_came() -> None:
    outlook = heard(beat(load=lane(running=0, frees_ms=(0, 0, 0, 0))))
    for _ in range(4):
        outlook.add("small", "interactive", Sent(NOW + 900, 0, "acme", 100))
    assert ms(outlook, now=NOW + 900) == 1000
    assert ms(outlook, now=NOW + 950) == 950


def test_what_was_sent_on_stands_ahead_until_it_is_known_to_have_been_read() -> None:
    outlook = heard(beat(load=queued(4)))
    for number in range(4):
        outlook.add("small", "interactive", Sent(NOW + number, number % 2, "acme", 100))
    assert ms(outlook) == 2250
    half = queued(6, read_at={0: NOW + 2, 1: NOW - 5})
    outlook.apply([(b"w", beat(at=NOW + 100, load=half).model_dump_json().encode())])
    assert ms(outlook, now=NOW + 100) == 2250
    both = queued(8, read_at={0: NOW + 2, 1: NOW + 3})
    outlook.apply([(b"w", beat(at=NOW + 200, load=both).model_dump_json().encode())])
    assert ms(outlook, now=NOW + 200) == 2250


def test_what_nobody_ever_read_is_forgotten() -> None:
    outlook = heard(beat(load=queued(4)))
    outlook.add("small", "interactive", Sent(NOW, 0, "acme", 400))
    outlook.apply([(b"w", beat(at=NOW + STALE_MS, load=queued(4)).model_dump_json().encode())])
    assert ms(outlook, now=NOW + STALE_MS) == 1250


def test_a_partition_that_nobody_has_may_come_to_the_busiest() -> None:
    outlook = heard(beat("idle"), beat("busy", load=queued(8)))
    assert ms(outlook, partition=9) == 2250


def test_what_is_no_beat_is_passed_over() -> None:
    outlook = heard(beat())
    outlook.apply([(b"w", b"{}"), (None, b"x")])
    assert outlook.serves("small", NOW) is True
