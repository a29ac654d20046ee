"""A first answer that doesn't stand: another model's takes its place, under one claim, with one answer and one bill."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.catalogue import Catalogue, parse_toml
from contracts.control import ControlType
from contracts.envelope import RequestType
from contracts.limits import Limit, dollars
from contracts.outcomes import Outcome
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind, event_id
from tests.streams.actors import (
    ask,
    body,
    escalate,
    finish,
    frames,
    give_first,
    orders,
    text,
    usage_events,
    work_records,
)
from tests.streams.test_crashes import OUTCOMES, Story
from tests.streams.world import Produced, World

ROUTES = """
version = "t"
[models.small]
version = "2.5"
[models.large]
version = "2.5"
[[rules]]
name = "all"
model = "small"
cascade = { model = "large", mean_logprob = -0.4 }
"""
CATALOGUE = parse_toml(ROUTES, "routes.toml", Catalogue)
AUTO = body(model="auto")


@pytest.fixture
def world() -> World:
    return World(Settings(request_partitions=1, tenant_partitions=1), catalogue=CATALOGUE)


def first_attempt(world: World) -> Produced:
    ask(world, value=AUTO)
    world.settle_down()
    (work,) = work_records(world)
    return work


def test_the_work_tells_the_worker_when_its_answer_does_not_stand(world: World) -> None:
    work = first_attempt(world)
    assert text(work, "model") == "small"
    assert '"model":"large"' in text(work, "cascade")
    assert '"mean_logprob":-0.4' in text(work, "cascade")


def test_a_named_model_has_no_cascade(world: World) -> None:
    ask(world)
    world.settle_down()
    assert not text(work_records(world)[0], "cascade")


def test_the_second_model_gets_the_request_as_it_was(world: World) -> None:
    work = first_attempt(world)
    escalate(world, work)
    world.settle_down()
    (second,) = world.records("work.large.interactive")
    assert (second.key, second.value) == (work.key, AUTO)
    assert (text(second, "model"), text(second, "attempt"), text(second, "escalated")) == ("large", "2", "unsure")
    assert {text(second, name) for name in ("outcome", "run", "cascade", "finished-at")} == {""}
    same = ("claim", "route", "reserved-tokens", "request-key", "accepted-at", "admitted-at", "fingerprint")
    assert [text(second, name) for name in same] == [text(work, name) for name in same]
    assert not frames(world)


def test_one_answer_one_bill_and_two_rows(world: World) -> None:
    escalate(world, first_attempt(world))
    world.settle_down()
    (second,) = world.records("work.large.interactive")
    ended = finish(world, second)
    world.settle_down()
    (frame,) = frames(world)
    assert (frame.value, text(frame, "model"), text(frame, "escalated")) == (ended.value, "large", "unsure")
    first, bill = usage_events(world)
    price = load_prices().find("small", "2.5", first.event_time)
    assert price is not None
    assert (first.kind, first.attempt, first.model, first.escalated) == (UsageKind.ESCALATED, 1, "small", "unsure")
    assert (first.cost_nano, first.unbilled_nano, first.completion_tokens) == (0, price.cost(7, 0, 3), 3)
    assert first.event_id == event_id("acme:k1", "0.0", "attempt 1")
    assert (bill.kind, bill.attempt, bill.model, bill.escalated) == (UsageKind.USAGE, 2, "large", "unsure")
    assert (bill.event_id, bill.unbilled_nano, bill.cost_nano > 0) == (event_id("acme:k1", "0.0"), 0, True)


def test_the_first_answer_travels_with_the_second_attempt_and_is_billed_where_that_fails(world: World) -> None:
    """It is what its caller gets, so it is what its caller pays, at the price of the model that wrote it."""
    answer = '{"id": "first"}'
    escalate(world, first_attempt(world), answer=answer)
    world.settle_down()
    (second,) = world.records("work.large.interactive")
    assert (text(second, "first-answer"), second.value) == (answer, AUTO)
    give_first(world, second)
    world.settle_down()
    (frame,) = frames(world)
    assert (frame.value, text(frame, "model"), text(frame, "outcome")) == (answer.encode(), "small", "succeeded")
    assert (text(frame, "fallback-from"), text(frame, "fallback-reason")) == ("large", "failed")
    first, bill = usage_events(world)
    price = load_prices().find("small", "2.5", bill.event_time)
    assert price is not None
    assert (bill.kind, bill.model, bill.model_version, bill.attempt) == (UsageKind.USAGE, "small", "2.5", 2)
    assert (bill.cost_nano, bill.completion_tokens, bill.engine_us) == (price.cost(7, 0, 3), 3, 700)
    assert (first.kind, first.cost_nano, bill.escalated) == (UsageKind.ESCALATED, 0, "unsure")
    assert bill.event_id == event_id("acme:k1", "0.0")


def test_an_answer_that_was_given_up_halfway_does_not_travel(world: World) -> None:
    escalate(world, first_attempt(world))
    world.settle_down()
    assert not {"first", "first-answer"} & dict(world.records("work.large.interactive")[0].headers).keys()


@pytest.mark.parametrize("late", ["finish", "escalate"])
def test_what_the_first_attempt_says_after_that_is_waste(world: World, late: str) -> None:
    """Its worker died before it could commit, so it ran again."""
    work = first_attempt(world)
    escalate(world, work)
    world.settle_down()
    (finish if late == "finish" else escalate)(world, work)
    world.settle_down()
    assert len(world.records("work.large.interactive")) == 1
    assert [event.kind for event in usage_events(world)] == [UsageKind.ESCALATED, UsageKind.WASTE]
    assert not frames(world)


def test_an_escalation_after_the_answer_is_waste(world: World) -> None:
    work = first_attempt(world)
    finish(world, work)
    escalate(world, work)
    world.settle_down()
    assert not world.records("work.large.interactive")
    assert [event.kind for event in usage_events(world)] == [UsageKind.USAGE, UsageKind.WASTE]


def test_the_claim_that_comes_again_does_not_run_the_first_attempt_again(world: World) -> None:
    escalate(world, first_attempt(world))
    world.settle_down()
    world.positions["requests", 0] = 0
    world.settle_down()
    assert len(world.records("work.small.interactive")) == 1


def test_a_cancellation_reaches_the_second_attempt(world: World) -> None:
    escalate(world, first_attempt(world))
    world.settle_down()
    ask(world, kind=RequestType.CANCEL)
    world.settle_down()
    assert orders(world, ControlType.ABORT) == [(ControlType.ABORT, "0.0")]
    finish(world, world.records("work.large.interactive")[0], Outcome.CANCELLED)
    world.settle_down()
    assert text(frames(world)[-1], "outcome") == "cancelled"


def test_who_asks_between_the_attempts_joins(world: World) -> None:
    escalate(world, first_attempt(world))
    world.settle_down()
    ask(world, value=AUTO, reply_to="responses/3")
    world.settle_down()
    finish(world, world.records("work.large.interactive")[0])
    world.settle_down()
    assert len(frames(world)) == 2
    ask(world, value=AUTO)
    world.settle_down()
    assert (text(frames(world)[-1], "replayed"), text(frames(world)[-1], "escalated")) == ("1", "unsure")


def test_the_reservation_is_enough_for_either_attempt(world: World) -> None:
    """The large model's answers cost more: the tenant's money must do for them."""
    work = first_attempt(world)
    small, large = (_cost(model, work) for model in ("small", "large"))
    world = World(world.settings, catalogue=CATALOGUE)
    limit = Limit(tenant="acme", dollars_per_day=dollars(large - 1))
    world.policy.apply([(limit.selector.encode(), limit.encode())])
    assert small < large - 1
    assert not text(first_attempt(world), "cascade"), "there is enough for the first attempt only: it stands"


def _cost(model: str, work: Produced) -> int:
    price = load_prices().find(model, "2.5", work.timestamp)
    assert price is not None
    return price.cost(int(text(work, "prompt-estimate")), 0, int(text(work, "max-tokens")))


class Cascading(Story):
    """Any order of requests, runs, escalations and crashes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, CATALOGUE)
        self.bodies = [AUTO, AUTO, body("another", model="auto")]

    def _run(self) -> None:
        work = self._unfinished() if self.random.random() < 0.7 else work_records(self.world)
        if not work:
            return
        chosen = self.random.choice(work)
        if text(chosen, "cascade") and self.random.random() < 0.6:
            escalate(self.world, chosen, answer=self.random.choice(["", "{}"]))
        elif text(chosen, "first") and self.random.random() < 0.4:
            give_first(self.world, chosen)
        else:
            finish(self.world, chosen, self.random.choice(OUTCOMES), completion_tokens=self.random.randint(0, 8))

    def _unfinished(self) -> list[Produced]:
        runs = [record for record in self.world.records("completions") if text(record, "run")]
        done = {(text(record, "claim"), text(record, "attempt")) for record in runs}
        return [work for work in work_records(self.world) if (text(work, "claim"), text(work, "attempt")) not in done]

    def _check_runs(self) -> None:
        super()._check_runs()
        events = usage_events(self.world)
        escalated = {event.claim for event in events if event.kind is UsageKind.ESCALATED}
        second = {event.claim for event in events if event.kind is UsageKind.USAGE and event.attempt == 2}
        wasted = {event.claim for event in events if event.kind is UsageKind.WASTE}
        assert second <= escalated, "nobody answers second without a first"
        assert escalated <= second | wasted, "whatever went on has ended, or another claim took its key"
        assert all(self._is_right(event, escalated) for event in events)

    def _is_right(self, event: UsageEvent, escalated: set[str]) -> bool:
        first = event.kind is UsageKind.USAGE and event.attempt == 1
        return not (first and event.claim in escalated)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_crashes_between_the_attempts_there_is_one_answer_and_one_bill(seed: int) -> None:
    Cascading(seed).tell()
