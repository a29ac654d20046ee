"""Shadow runs: another model's work on what was answered, by which nobody is answered, billed, limited or held up."""

from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.catalogue import Catalogue, parse_toml
from contracts.envelope import Admitted, RequestType, Work
from contracts.outcomes import Outcome
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.shadow import Shadow
from contracts.usage import UsageKind, event_id
from streams.policy.case import Conditions
from streams.route import Route, Router
from streams.settle import Settle
from streams.state import OWN
from tests.streams.actors import (
    ask,
    body,
    escalate,
    finish,
    frames,
    shadowed,
    text,
    usage_events,
    want_shadow,
    work_records,
)
from tests.streams.test_crashes import OUTCOMES, Story
from tests.streams.world import Defect, Produced, World

ROUTES = """
version = "t"
[models.small]
version = "2.5"
[models.large]
version = "2.5"
[[rules]]
name = "all"
model = "small"
shadow = { share = SHARE, model = "large" }
"""
AUTO = body(model="auto")
SHADOW_WORK = "work.large.batch"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def catalogue(share: float = 1.0, more: str = "") -> Catalogue:
    return parse_toml(ROUTES.replace("SHARE", str(share)) + more, "routes.toml", Catalogue)


@pytest.fixture
def world() -> World:
    return World(Settings(request_partitions=1, tenant_partitions=1), catalogue=catalogue())


def answered(world: World, *, value: bytes = AUTO) -> Produced:
    headers = [("user", b"ann"), ("deadline", b"%d" % (world.now + 60_000)), ("traceparent", TRACE.encode())]
    ask(world, value=value, headers=headers)
    world.settle_down()
    (work,) = work_records(world)
    ended = finish(world, work)
    world.settle_down()
    return ended


def wanted(world: World, ended: Produced) -> Produced:
    want_shadow(world, ended)
    world.settle_down()
    (work,) = world.records(SHADOW_WORK)
    return work


def test_the_share_is_drawn_by_the_key_and_a_larger_one_keeps_the_smaller() -> None:
    keys = [f"acme:k{number}" for number in range(2000)]
    drawn = {share: {key for key in keys if Shadow(share=share, model="m").draws(key)} for share in (0.1, 0.2, 1.0)}
    assert drawn[0.1] < drawn[0.2] < drawn[1.0] == set(keys)
    assert 150 < len(drawn[0.1]) < 250


def test_only_auto_is_drawn_and_only_for_another_model_that_can_take_it_now() -> None:
    router = Router(catalogue(), load_prices())

    def shadow(model: str = "auto", now: Conditions = Conditions()) -> str:  # noqa: B008
        request = Admitted(
            operation="chat",
            requested_model=model,
            fingerprint="f" * 32,
            prompt_estimate=9,
            request_key="acme:k1",
            claim="0.0",
            accepted_at=0,
            deduped_at=0,
        )
        route = router.choose(request, body(model=model), 0, now)
        assert isinstance(route, Route)
        return route.shadow

    assert shadow() == "large"
    assert not shadow("small")
    assert not shadow(now=Conditions(down={"large": "no_worker"}))
    assert not shadow(now=Conditions(down={"large": "failing"}))


def test_the_other_model_gets_the_body_and_nothing_that_could_answer_charge_or_cancel(world: World) -> None:
    work = wanted(world, answered(world, value=body(model="auto", stream=True)))
    said = Work.from_headers(work.headers)
    assert (work.value, said.model, said.lane) == (body(model="auto", stream=True), "large", "batch")
    assert (said.shadow_of, said.answered, said.shadow, said.cascade) == ("small", "same", "", "")
    assert (said.reserved_tokens, said.stream, said.reply_to, said.caller) == (0, False, None, "")
    assert (said.user, said.route, said.claim, said.requested_model) == ("ann", "all", "0.0", "auto")
    assert said.deadline == world.now + 600_000
    assert not {"outcome", "run", "worker", "answer-digest"} & dict(work.headers).keys()


def test_what_comes_of_it_is_one_unbilled_row(world: World) -> None:
    work = wanted(world, answered(world))
    told = shadowed(world, work)
    world.settle_down()
    bill, row = usage_events(world)
    price = load_prices().find("large", "2.5", row.event_time)
    assert price is not None
    assert (row.kind, row.model, row.shadow_of, row.agreement) == (UsageKind.SHADOW, "large", "small", "same")
    assert (row.cost_nano, row.unbilled_nano, row.completion_tokens) == (0, price.cost(7, 0, 4), 4)
    assert (row.claim, row.answer_kind, row.mean_logprob) == (bill.claim, "final", -0.25)
    assert row.trace_id == bill.trace_id == TRACE_ID
    assert row.event_id == event_id("acme:k1", "0.0", f"shadow {told.partition}.{told.offset}")
    assert (bill.kind, bill.model, len(frames(world))) == (UsageKind.USAGE, "small", 1)


@pytest.mark.parametrize(
    ("outcome", "digest", "expected"),
    [
        (Outcome.SUCCEEDED, "same", "same"),
        (Outcome.SUCCEEDED, "not", "other"),
        (Outcome.SUCCEEDED, "", ""),
        (Outcome.FAILED, "same", ""),
        (Outcome.CANCELLED, "same", ""),
    ],
)
def test_both_answers_are_needed_to_agree(world: World, outcome: Outcome, digest: str, expected: str) -> None:
    shadowed(world, wanted(world, answered(world)), outcome, digest=digest)
    world.settle_down()
    row = usage_events(world)[-1]
    assert (row.kind, row.outcome, row.agreement) == (UsageKind.SHADOW, outcome, expected)


def test_only_the_run_that_answered_is_compared_with(world: World) -> None:
    ended = answered(world)
    again = finish(world, work_records(world)[0])  # its worker died before it could commit
    want_shadow(world, again)
    world.settle_down()
    assert not world.records(SHADOW_WORK)
    want_shadow(world, ended)
    world.settle_down()
    assert len(world.records(SHADOW_WORK)) == 1


def test_what_is_wanted_before_the_answer_or_for_nothing_is_left_out(world: World) -> None:
    ask(world, value=AUTO)
    world.settle_down()
    (work,) = work_records(world)
    ended = finish(World(world.settings, catalogue=catalogue()), work)
    want_shadow(world, ended)
    world.settle_down()
    assert not world.records(SHADOW_WORK)
    assert not world.records("dead-letters")
    assert not frames(world)


def test_what_was_forgotten_is_sent_to_no_other_model(world: World) -> None:
    ended = answered(world)
    ask(world, kind=RequestType.FORGET)
    world.settle_down()
    want_shadow(world, ended)
    world.settle_down()
    assert not world.records(SHADOW_WORK)


def test_a_worker_of_before_there_were_shadows_can_not_answer_by_one(world: World) -> None:
    work = wanted(world, answered(world))
    before = dict(world.tables["requests", 0].entries)
    finish(world, work)
    world.settle_down()
    assert (len(usage_events(world)), len(frames(world))) == (1, 1)
    assert world.tables["requests", 0].entries == before


@pytest.mark.parametrize("stage", ["wanted", "over"])
def test_what_settle_fails_on_rests_in_dead_letters_and_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    ended = answered(world)
    work = wanted(world, ended)

    def fails(*_: object) -> NoReturn:
        raise Defect

    monkeypatch.setattr(Settle, "_beside", fails)
    if stage == "wanted":
        want_shadow(world, ended)
    else:
        shadowed(world, work)
    world.settle_down()
    assert len(world.records("dead-letters")) == 1
    assert (len(frames(world)), len(usage_events(world))) == (1, 1)


def test_the_second_attempt_of_a_cascade_has_no_shadow(world: World) -> None:
    """The first answer that didn't stand would say nothing of the second."""
    world = World(world.settings, catalogue=catalogue(more='cascade = { model = "large" }'))
    ask(world, value=AUTO)
    world.settle_down()
    (work,) = work_records(world)
    assert text(work, "shadow") == "large"
    escalate(world, work)
    world.settle_down()
    assert not text(world.records("work.large.interactive")[0], "shadow")


def test_a_cancellation_of_what_was_answered_tells_no_worker(world: World) -> None:
    wanted(world, answered(world))
    ask(world, kind=RequestType.CANCEL)
    world.settle_down()
    assert not world.records(world.topics.control)


class Shadowing(Story):
    """Any order of requests, runs, shadow runs and crashes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, catalogue())
        self.bodies = [AUTO, AUTO, body("another", model="auto")]

    def _run(self) -> None:
        luck, shadows = self.random.random(), self.world.records(SHADOW_WORK)
        real = [work for work in work_records(self.world) if work.topic != SHADOW_WORK]
        said = self.world.records("completions")
        ended = [one for one in said if text(one, "outcome") == "succeeded" and text(one, "shadow")]
        if luck < 0.3 and shadows:
            self._end_shadow(self.random.choice(shadows))
        elif luck < 0.6 and ended:
            want_shadow(self.world, self.random.choice(ended))
        elif real:
            outcome, tokens = self.random.choice(OUTCOMES), self.random.randint(0, 8)
            finish(self.world, self.random.choice(self._unfinished() or real), outcome, completion_tokens=tokens)

    def _end_shadow(self, work: Produced) -> None:
        if self.random.random() < 0.2:
            finish(self.world, work, self.random.choice(OUTCOMES))  # by a worker that knows of no shadows
        else:
            shadowed(self.world, work, self.random.choice(OUTCOMES), digest=self.random.choice(["same", "not"]))

    def _unfinished(self) -> list[Produced]:
        return [work for work in super()._unfinished() if work.topic != SHADOW_WORK]

    def _check_runs(self) -> None:
        super()._check_runs()
        events = usage_events(self.world)
        answered = {event.claim for event in events if event.outcome is Outcome.SUCCEEDED}
        rows = [event for event in events if event.kind is UsageKind.SHADOW]
        told = {text(one, "run") for one in self.world.records("completions") if text(one, "outcome") == "shadowed"}
        assert {row.run for row in rows} == told, "each is counted"
        assert {row.claim for row in rows} <= answered, "and is of something that was answered"
        assert all(row.model == "large" and not row.cost_nano and not row.reserved_tokens for row in rows)
        assert all(event.model != "large" for event in events if event.kind is UsageKind.USAGE)
        for partition in range(2):
            entries = self.world.tables["requests", partition].entries
            assert not any(b"large" in value for key, value in entries.items() if key[:1] != OWN)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_crashes_a_shadow_run_changes_nothing(seed: int) -> None:
    Shadowing(seed).tell()
