"""What the streams count: decisions as they fall, open reservations by looking, lag by asking Kafka."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.catalogue import load_catalogue
from contracts.instruments import exposition
from contracts.metrics import (
    ADMITTED,
    ADMITTED_TOKENS,
    COST,
    DEDUPE,
    LIMITED,
    PARTITIONS,
    POISON,
    REQUESTS,
    RESERVATIONS,
    RESERVED_TOKENS,
    TOKEN_USAGE,
    UNROUTED,
    WASTE,
    WASTE_TOKENS,
)
from contracts.outcomes import Outcome
from contracts.poison_limit import PoisonLimit
from contracts.settings import Settings
from contracts.topics import TENANT_TABLE
from streams.census import Census
from streams.lag import LagWatch
from streams.limits.account import Need
from streams.metrics import StageMetrics, prepare, recent, tell_tables
from streams.reservation import Choice, Hold, Reservation, ReservationKey
from streams.route import Route
from streams.store import Mark, Place, Store
from streams.table import Partition
from streams.tables import Tables
from tests.streams.actors import ask, body, finish, work_records
from tests.streams.test_meter import NEED, ask_many, world_with
from tests.streams.world import World
from tests.support.metering import rise, value

AT = 1_790_000_000_000


def test_what_dedupe_decides(world: World) -> None:
    told = {decision: rise(DEDUPE, decision) for decision in ("new", "attached", "replayed", "reused")}
    ask(world)
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0])
    world.settle_down()
    ask(world)
    ask(world, value=body("another"))
    world.settle_down()
    assert {decision: more() for decision, more in told.items()} == dict.fromkeys(told, 1)


def test_who_is_let_through_and_who_is_not() -> None:
    admitted, tokens = rise(ADMITTED, "small", "interactive", "named"), rise(ADMITTED_TOKENS, "small", "interactive")
    limited, unrouted = rise(LIMITED, "tokens_per_minute"), rise(UNROUTED, "max_cost_exceeded")
    world = world_with(NEED * 3)
    ask_many(world, 5)
    ask(world, "acme:dear", headers=[("max-cost", b"1")])
    world.settle_down()
    assert (admitted(), tokens(), limited(), unrouted()) == (3, 3 * NEED, 2, 1)
    assert list(recent["small", "interactive"])[-3:] == [NEED] * 3


def test_how_a_request_ended_and_what_it_cost(world: World) -> None:
    ended, cost = rise(REQUESTS, "small", "interactive", "succeeded"), rise(COST, "small")
    waste, wasted = rise(WASTE, "small"), rise(WASTE_TOKENS, "small")
    ask(world)
    world.settle_down()
    [work] = work_records(world)
    for _ in range(2):  # the second comes too late
        finish(world, work, prompt_tokens=30, completion_tokens=12)
        world.settle_down()
    assert (ended(), cost(), waste(), wasted()) == (1, 1, 1, 42)


def test_a_failure_costs_nothing(world: World) -> None:
    failed, cost = rise(REQUESTS, "small", "interactive", "failed"), rise(COST, "small")
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0], Outcome.FAILED)
    world.settle_down()
    assert (failed(), cost()) == (1, 0)


def test_what_is_known_is_there_at_0() -> None:
    prepare(Settings(), load_catalogue())
    assert value(REQUESTS, "large", "batch", "timed_out") is not None
    assert value(LIMITED, "dollars_per_month") is not None
    assert value(ADMITTED, "large", "batch", "complex") is not None
    labels = ("text_completion", "synthetic", "large", "Qwen/Qwen2.5-7B-Instruct", "output")
    assert value(TOKEN_USAGE, *labels) is not None


def test_the_share_of_poison_is_told_at_a_scrape() -> None:
    limit = PoisonLimit(0.5, 10)
    StageMetrics("made up", limit)
    for number in range(10):
        limit.count(poison=number < 3)
    exposition("")
    assert value(POISON, "made up") == pytest.approx(3 / 5)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    store = Store(tmp_path)
    opened = Tables(store, None, [TENANT_TABLE])  # type: ignore[arg-type] # nothing is read from Kafka

    async def never(*_: object) -> set[bytes]:
        raise AssertionError("nobody else writes")

    for number in (0, 3):
        place = Place(TENANT_TABLE, number)
        opened._open[place] = Partition(store, place, Mark(0, 0, 0), 1, never)
    yield opened
    store.close()


def reservation(model: str, tokens: int, hold: Hold = Hold.OPEN) -> bytes:
    choice = Choice(Route(model, "named", 0.0, tokens), "1")
    return Reservation(7, Need(tokens, 5), AT, AT, AT + 1, hold, choice=choice).encode()


async def test_the_census_counts_what_is_open(tables: Tables) -> None:
    settled = Reservation(9, Need(0, 0, 0), AT, AT, AT + 1, Hold.SETTLED).encode()
    first, second = tables.own(TENANT_TABLE)
    for number in range(1200):  # more than it looks at in one go
        first.put(ReservationKey("acme", AT, f"0.{number}").encode(), reservation("small", 10))
        second.put(ReservationKey("acme", AT, f"0.{number}").encode(), settled)
    second.put(ReservationKey("globex", AT, "1.1").encode(), reservation("large", 900))
    second.put(ReservationKey("globex", AT, "1.2").encode(), reservation("large", 800, Hold.RELEASED))
    second.put(b"t\0globex", b"an account, not a reservation")
    census = Census(tables, ["small", "large"])
    held = await census.count()
    assert {model: (found.requests, found.tokens) for model, found in held.items()} == {
        "small": (1200, 12_000),
        "large": (1, 900),
    }
    census.held = held
    census._tell()
    assert (value(RESERVATIONS, "small"), value(RESERVED_TOKENS, "large")) == (1200, 900)
    assert (census.mean_tokens("small"), census.mean_tokens("none")) == (10, 0)


def test_which_partitions_are_owned(tables: Tables, tmp_path: Path) -> None:
    tell_tables(tables, [TENANT_TABLE], tmp_path)
    exposition("")
    assert value(PARTITIONS, TENANT_TABLE) == 2


def test_records_that_wait_in_tokens() -> None:
    watch = LagWatch(Settings(), load_catalogue(), lambda model: 50.0 if model == "large" else 0.0)
    recent["large", "batch"].clear()
    assert watch._in_tokens("large", "batch", 3) == 150  # nothing was routed here yet
    recent["large", "batch"].extend((100, 200, 600))
    assert watch._in_tokens("large", "batch", 0) == 0
    assert watch._in_tokens("large", "batch", 2) == 800  # the last two
    assert watch._in_tokens("large", "batch", 6) == 1800  # and as many again
    recent["large", "batch"].clear()
