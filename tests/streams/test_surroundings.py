"""What workers tell, and what becomes of requests for it: decided once, kept over a crash, with nothing used up."""

import orjson
import pytest

from contracts.settings import Settings
from contracts.workers import STALE_MS, LaneLoad, Outcomes
from tests.streams.actors import ask, finish, frames, text, usage_events, work_records
from tests.streams.world import World
from tests.support.loads import beat, lane, record

SETTINGS = Settings(request_partitions=1, tenant_partitions=1)


@pytest.fixture
def world() -> World:
    return World(SETTINGS)


def tell(world: World, **models: LaneLoad) -> None:
    world.surroundings.apply([record(beat(world.now, **models))])


def asked(world: World, key: str = "acme:k1", deadline_ms: int | None = None) -> None:
    headers = [] if deadline_ms is None else [("deadline", str(world.now + deadline_ms).encode())]
    ask(world, key, headers=headers)
    world.settle_down()


def test_while_nothing_is_known_of_workers_nothing_is_refused(world: World) -> None:
    asked(world, deadline_ms=1)
    assert len(work_records(world)) == 1
    assert "estimated-start" not in dict(work_records(world)[0].headers)


def test_work_says_when_it_is_expected_to_start(world: World) -> None:
    tell(world, small=lane(4))
    asked(world)
    assert text(work_records(world)[0], "estimated-start") == str(world.now + 1250)


def test_what_cant_start_in_time_is_refused_at_once_and_uses_nothing(world: World) -> None:
    tell(world, small=lane(8))
    asked(world, deadline_ms=2000)
    (frame,) = frames(world)
    assert (text(frame, "status"), text(frame, "outcome")) == ("529", "rejected")
    error = orjson.loads(frame.value)["error"]
    assert (error["code"], error["type"], error["param"]) == ("over_capacity", "server_error", "deadline")
    assert not work_records(world)
    assert not [key for key in world.tables["tenants", 0].entries if key.startswith(b"r\0")]
    wait_ms = int(text(frame, "retry-after-ms"))
    world.now += wait_ms - 1
    asked(world, deadline_ms=2000)
    assert not work_records(world)
    world.now += 1
    asked(world, deadline_ms=2000)  # the same key: it was never consumed
    assert len(work_records(world)) == 1


def test_requests_count_each_other_between_two_beats(world: World) -> None:
    tell(world, small=lane(4))
    for number in range(100):
        asked(world, f"acme:k{number}", deadline_ms=2500)
    admitted = len(work_records(world))
    assert 0 < admitted < 100
    assert {text(frame, "status") for frame in frames(world)} == {"529"}


def test_a_model_whose_worker_is_dead_is_503_for_who_cant_wait(world: World) -> None:
    tell(world, small=lane())
    world.now += STALE_MS + 1
    asked(world, deadline_ms=5000)
    (frame,) = frames(world)
    assert (text(frame, "status"), text(frame, "retry-after-ms")) == ("503", "25000")
    assert orjson.loads(frame.value)["error"]["code"] == "no_worker"
    asked(world, "acme:patient")
    assert len(work_records(world)) == 1
    tell(world, small=lane())
    asked(world, deadline_ms=5000)
    assert len(work_records(world)) == 2


def crash(world: World, *landed: bool) -> None:
    """After the meter has decided: whether its state made it into Kafka, and what it sent."""
    world.land(world.take("dedupe", 0, 1) or pytest.fail("nothing was asked"))
    assert world.take("meter", 0, 1)
    world.crash(iter(landed).__next__)


def test_a_refusal_is_a_refusal_after_a_crash_too(world: World) -> None:
    tell(world, small=lane(8))
    ask(world, headers=[("deadline", str(world.now + 2000).encode())])
    crash(world, True, False)
    world.now += 1
    tell(world, small=lane())
    world.settle_down()
    assert not work_records(world)
    assert [text(frame, "outcome") for frame in frames(world)] == ["rejected"]


def test_who_is_let_through_goes_on_as_it_did_after_a_crash_too(world: World) -> None:
    tell(world, small=lane(2))
    ask(world, headers=[("deadline", str(world.now + 2000).encode())])
    crash(world, True, True)
    world.now += 1
    tell(world, small=lane(100))
    world.settle_down()
    first, second = work_records(world)
    assert first.headers == second.headers
    assert not frames(world)


def test_a_failing_model_is_tried_again_by_one_request(world: World) -> None:
    breaker = world.surroundings.breakers.of("small")
    for ended in (0, 20):
        tell_outcomes(world, ended)
    assert breaker.opened
    assert breaker.refuses(world.now)
    world.now += SETTINGS.breaker_open_seconds * 1000
    tell(world, small=lane())
    assert not breaker.refuses(world.now)
    asked(world)
    assert breaker.refuses(world.now)


def tell_outcomes(world: World, failed: int) -> None:
    world.now += 1000
    told = beat(world.now, outcomes=Outcomes(ended=failed, failed=failed), small=lane())
    world.surroundings.apply([record(told)])


def test_the_ledger_and_the_frames_say_which_model_should_have_had_it(world: World) -> None:
    tell(world, small=lane())
    asked(world)
    (work,) = work_records(world)
    said = [("fallback-from", b"large"), ("fallback-reason", b"no_worker")]
    finish(world, work._replace(headers=[*work.headers, *said]))
    world.settle_down()
    (event,) = usage_events(world)
    assert (event.model, event.fallback_from, event.fallback_reason) == ("small", "large", "no_worker")
    assert (text(frames(world)[-1], "fallback-from"), text(frames(world)[-1], "fallback-reason")) == (
        "large",
        "no_worker",
    )
