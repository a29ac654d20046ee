"""Reserve, then settle: never above the limit, every token given back once."""

import orjson
import pytest

from contracts.bodies import describe
from contracts.catalogue import load_catalogue
from contracts.outcomes import Outcome
from contracts.settings import Settings
from streams.limits.bucket import MINUTE_MS
from streams.limits.history import History
from streams.records import Output
from streams.reservation import Hold, Reservation
from streams.tenants import Tenant, history_key
from tests.streams.actors import ask, body, finish, frames, text, usage_events, work_records
from tests.streams.world import Produced, World

NEED = describe(body()).digest.prompt_estimate + 10  # tokens that one request reserves
TTL_MS = 60_000


def world_with(limit: int) -> World:
    settings = Settings(
        request_partitions=1, tenant_partitions=1, tokens_per_minute=limit, reservation_ttl_seconds=TTL_MS // 1000
    )
    return World(settings)


def tenant(world: World) -> Tenant:
    return Tenant.decode(world.tables["tenants", 0].entries[b"t\0acme"])


def minute(world: World) -> int:
    """Tokens × MINUTE_MS in the tenant's bucket."""
    return tenant(world).account.used[0]


def history(world: World, model: str = "small") -> History:
    stored = world.tables["tenants", 0].entries.get(history_key("acme", model))
    return History.decode(stored) if stored else History()


def reservations(world: World) -> list[Reservation]:
    entries = world.tables["tenants", 0].entries
    return [Reservation.decode(value) for key, value in entries.items() if key.startswith(b"r\0")]


def ask_many(world: World, count: int, prefix: str = "k") -> None:
    for number in range(count):
        ask(world, f"acme:{prefix}{number}")
    world.settle_down()


def test_work_says_how_it_was_routed_and_what_it_reserved(world: World) -> None:
    ask(world, headers=[("lane", b"batch")])
    world.settle_down()
    (work,) = world.records("work.small.batch")
    said = dict(work.headers)
    assert work.key == b"acme:k1"
    assert (said["model"], said["route"], said["complexity"]) == (b"small", b"named", b"0.0")
    assert said["router-version"].decode().startswith(f"{load_catalogue().version}+")
    assert (said["reserved-tokens"], said["admitted-at"]) == (str(NEED).encode(), str(world.now).encode())


def test_without_a_cap_the_models_default_is_reserved(world: World) -> None:
    ask(world, value=body(max_tokens=None))
    world.settle_down()
    reserved = int(text(work_records(world)[0], "reserved-tokens"))
    assert reserved == NEED - 10 + load_catalogue().models["small"].default_output_tokens


def test_no_more_than_the_limit_is_admitted() -> None:
    world = world_with(NEED * 3)
    ask_many(world, 5)
    assert len(work_records(world)) == 3
    refused = [frame for frame in frames(world) if text(frame, "status") == "429"]
    assert len(refused) == 2
    assert orjson.loads(refused[0].value)["error"]["type"] == "rate_limit_error"


def test_the_retry_after_is_true() -> None:
    world = world_with(NEED * 3)
    ask_many(world, 4)
    wait_ms = int(text(frames(world)[-1], "retry-after-ms"))
    world.now += wait_ms - 1
    ask_many(world, 1, "early")
    assert len(work_records(world)) == 3
    world.now += 1
    ask_many(world, 1, "right")
    assert len(work_records(world)) == 4


def test_a_request_that_can_never_fit_is_400_and_its_reason() -> None:
    world = world_with(NEED - 1)
    ask_many(world, 1)
    (frame,) = frames(world)
    assert (text(frame, "status"), text(frame, "outcome"), text(frame, "retry-after-ms")) == ("400", "rejected", "")
    assert "never fit" in orjson.loads(frame.value)["error"]["message"]


def test_what_a_router_refuses_reserves_nothing() -> None:
    world = world_with(NEED)
    ask(world, headers=[("max-cost", b"1")])
    world.settle_down()
    assert text(frames(world)[-1], "status") == "400"
    assert not reservations(world)
    assert minute(world) == 0


def test_real_usage_settles_the_reservation() -> None:
    world = world_with(NEED)
    ask_many(world, 1)
    finish(world, work_records(world)[0], prompt_tokens=3, completion_tokens=4)
    world.settle_down()
    assert minute(world) == 7 * MINUTE_MS


def test_more_than_was_reserved_is_a_debt() -> None:
    world = world_with(NEED)
    ask_many(world, 1)
    finish(world, work_records(world)[0], prompt_tokens=NEED, completion_tokens=NEED)
    world.settle_down()
    assert minute(world) == 2 * NEED * MINUTE_MS


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED, Outcome.EXPIRED])
def test_what_isnt_billed_gives_everything_back(outcome: Outcome) -> None:
    world = world_with(NEED)
    ask_many(world, 1)
    finish(world, work_records(world)[0], outcome)
    world.settle_down()
    assert minute(world) == 0
    assert history(world) == History()


def test_real_tokens_are_counted_by_tenant_and_model(world: World) -> None:
    for number, model in enumerate(["small", "large", "small"]):
        ask(world, f"acme:k{number}", body(model=model))
    world.settle_down()
    for work in work_records(world):
        finish(world, work)
    world.settle_down()
    small = history(world)
    assert (small.requests, small.prompt, small.completion) == (2, 14, 10)
    assert small.cost_nano + history(world, "large").cost_nano == sum(event.cost_nano for event in usage_events(world))


def test_a_usage_event_that_comes_twice_counts_once(world: World) -> None:
    ask_many(world, 1)
    finish(world, work_records(world)[0])
    world.settle_down()
    before = tenant(world).account, history(world)
    repeated = world.records("usage")[0]
    world.produce(Output("usage", repeated.key, repeated.value, []))
    world.settle_down()
    assert (tenant(world).account, history(world)) == before


def test_a_claim_that_comes_twice_runs_once(world: World) -> None:
    ask_many(world, 1)
    repeat(world, world.records("admitted")[0])
    assert len(work_records(world)) == 1
    finish(world, work_records(world)[0])
    world.settle_down()
    repeat(world, world.records("admitted")[0])
    assert len(work_records(world)) == 1


def repeat(world: World, record: Produced) -> None:
    world.produce(Output(record.topic, record.key, record.value, record.headers))
    world.settle_down()


def test_a_replay_sends_open_work_on_again_and_takes_nothing(world: World) -> None:
    ask_many(world, 1)
    level = minute(world)
    world.positions["admitted", 0] = 0
    world.now += 5
    world.settle_down()
    first, again = work_records(world)
    assert (again.value, again.headers) == (first.value, first.headers)
    assert minute(world) == level


def test_a_replay_refuses_again_what_was_refused() -> None:
    world = world_with(NEED)
    ask_many(world, 2)
    world.now += MINUTE_MS
    world.positions["admitted", 0] = 1
    world.settle_down()
    assert len(work_records(world)) == 1
    assert [text(record, "outcome") for record in world.records("completions")] == ["rejected", "rejected"]
    assert len(usage_events(world)) == 1


def test_a_reservation_that_nothing_settles_is_given_back() -> None:
    world = world_with(NEED)
    ask_many(world, 1)
    world.now += TTL_MS
    ask_many(world, 1, "later")  # the minute has refilled the bucket by now
    assert [held.hold for held in reservations(world)] == [Hold.RELEASED, Hold.OPEN]


def test_usage_that_comes_after_the_release_is_counted_once() -> None:
    world = world_with(NEED * 2)
    ask_many(world, 1)
    late = work_records(world)[0]
    world.now += TTL_MS
    ask_many(world, 1, "later")
    level = minute(world)
    finish(world, late, prompt_tokens=3, completion_tokens=4)
    world.settle_down()
    assert minute(world) == level + 7 * MINUTE_MS
    assert history(world).requests == 1


def test_reservations_are_forgotten_in_the_end() -> None:
    world = world_with(NEED * 1000)
    ask_many(world, 250)
    for work in work_records(world):
        finish(world, work)
    world.settle_down()
    world.now += 3_600_000
    ask_many(world, 20, "later")
    assert len(reservations(world)) == 20


def test_what_cant_be_understood_rests_in_dead_letters(world: World) -> None:
    world.produce(Output("usage", b"acme", b"{}", []))
    world.produce(Output("admitted", b"acme", b"{}", [("claim", b"0.0")]))
    world.produce(Output("admitted", b"acme", b"", [("claim", b"0.0")]))
    world.settle_down()
    assert len(world.records("dead-letters")) == 3
    ask_many(world, 1)
    assert len(work_records(world)) == 1
