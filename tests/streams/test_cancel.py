"""A request that its caller gave up: by saying so, on either topic, or by hanging up."""

import orjson
import pytest

from contracts.control import ControlType
from contracts.envelope import RequestType
from contracts.frames import RequestState
from contracts.outcomes import Outcome
from streams.entry import MAX_CALLERS
from tests.streams.actors import (
    ask,
    body,
    cancel_on_control,
    finish,
    frames,
    leave,
    orders,
    text,
    usage_events,
    work_records,
)
from tests.streams.world import Produced, World

ABORT = (ControlType.ABORT, "0.0")


def cancel(world: World, ce_id: str = "cancel", key: str = "acme:k1") -> Produced:
    """The last frame that this asker, or everybody, was told."""
    ask(world, key, kind=RequestType.CANCEL, ce_id=ce_id)
    world.settle_down()
    return frames(world)[-1]


def call(world: World, caller: str = "", *, reply_to: str = "") -> None:
    """Somebody asks; a named one says when it hangs up."""
    ask(world, headers=[("caller", caller.encode())] if caller else None, reply_to=reply_to)
    world.settle_down()


def hang_up(world: World, caller: str, mode: str) -> list[tuple[str, str]]:
    """Everything that was ordered so far."""
    leave(world, caller, mode)
    world.settle_down()
    return orders(world)


def test_what_runs_is_ordered_to_end_and_its_canceller_waits_for_that(world: World) -> None:
    call(world)
    told = cancel(world)
    assert RequestState.model_validate_json(told.value).status == "cancelling"
    assert (text(told, "kind"), text(told, "in-reply-to")) == ("state", "cancel")
    assert orders(world) == [ABORT]
    assert frames(world)[-1] is told
    finish(world, work_records(world)[0], Outcome.CANCELLED, completion_tokens=3)
    world.settle_down()
    end = frames(world)[-1]
    assert (text(end, "kind"), text(end, "outcome"), text(end, "completion-tokens")) == ("final", "cancelled", "3")
    (event,) = usage_events(world)
    assert (event.outcome, event.completion_tokens, event.cost_nano > 0) == (Outcome.CANCELLED, 3, True)


def test_a_canceller_with_an_address_of_its_own_is_told_the_end(world: World) -> None:
    call(world)
    ask(world, kind=RequestType.CANCEL, reply_to="responses.mine")
    world.settle_down()
    finish(world, work_records(world)[0], Outcome.CANCELLED)
    world.settle_down()
    assert [text(frame, "kind") for frame in frames(world, "responses.mine")] == ["state", "final"]


def test_cancelling_again_says_the_same(world: World) -> None:
    call(world)
    cancel(world)
    assert RequestState.model_validate_json(cancel(world, "again").value).status == "cancelling"
    finish(world, work_records(world)[0], Outcome.CANCELLED)
    world.settle_down()
    state = RequestState.model_validate_json(cancel(world, "late").value)
    assert (state.status, state.error) == ("cancelled", None)
    assert state.response is not None
    assert len(usage_events(world)) == 1


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.REJECTED, Outcome.EXPIRED])
def test_what_has_ended_otherwise_cant_be_cancelled(world: World, outcome: Outcome) -> None:
    call(world)
    finish(world, work_records(world)[0], outcome)
    world.settle_down()
    refusal = cancel(world)
    assert (text(refusal, "kind"), text(refusal, "status"), text(refusal, "in-reply-to")) == ("error", "409", "cancel")
    error = orjson.loads(refusal.value)["error"]
    assert error["code"] == "request_finished"
    assert outcome.value in error["message"]
    assert not orders(world)


def test_the_first_outcome_wins_and_the_loser_of_the_race_learns_it(world: World) -> None:
    call(world)
    cancel(world)
    work = work_records(world)[0]
    finish(world, work, Outcome.SUCCEEDED)
    finish(world, work, Outcome.CANCELLED)
    world.settle_down()
    assert text(frames(world)[-1], "outcome") == "succeeded"
    assert text(cancel(world, "again"), "status") == "409"
    assert [event.kind for event in usage_events(world)] == ["usage", "waste"]


def test_an_unknown_request_cant_be_cancelled(world: World) -> None:
    refusal = cancel(world)
    assert (text(refusal, "status"), text(refusal, "in-reply-to")) == ("404", "cancel")
    assert not orders(world)
    call(world)
    assert len(work_records(world)) == 1


def test_a_cancelled_key_replays_its_answer(world: World) -> None:
    call(world)
    finish(world, work_records(world)[0], Outcome.CANCELLED)
    world.settle_down()
    first = frames(world)[-1]
    ask(world, ce_id="again")
    world.settle_down()
    replay = frames(world)[-1]
    assert replay.value == first.value
    assert (text(replay, "replayed"), text(replay, "kind"), text(replay, "outcome")) == ("1", "final", "cancelled")
    assert len(world.records("admitted")) == 1


def test_a_wish_on_control_goes_behind_what_was_asked(world: World) -> None:
    """It may be read before the request that it is about, and still finds it."""
    ask(world)
    cancel_on_control(world, headers=[("ce_id", b"mine"), ("traceparent", b"00-ab-cd-01")])
    while batch := world.take("control", 0, 10):
        world.land(batch)
    world.settle_down()
    assert orders(world) == [ABORT]
    told = frames(world)[-1]
    assert (text(told, "kind"), text(told, "in-reply-to")) == ("state", "mine")
    assert not world.records("dead-letters")


@pytest.mark.parametrize(("key", "headers"), [("nobody", []), ("acme:k1", [("ce_type", b"millrace.dance.v1")])])
def test_a_wish_that_cant_be_understood_is_set_aside(world: World, key: str, headers: list[tuple[str, bytes]]) -> None:
    cancel_on_control(world, key, headers)
    world.settle_down()
    (letter,) = world.records("dead-letters")
    assert text(letter, "dead-letter-topic") == "control"


@pytest.mark.parametrize(
    ("mode", "ordered"), [("cancel", [ABORT]), ("drain", [(ControlType.DRAIN, "0.0")]), ("detach", [])]
)
def test_when_the_only_caller_hangs_up_its_word_counts(world: World, mode: str, ordered: list[tuple[str, str]]) -> None:
    call(world, "ann")
    assert hang_up(world, "ann", mode) == ordered


def test_the_last_one_to_leave_decides(world: World) -> None:
    call(world, "ann")
    call(world, "ben", reply_to="responses.mine")
    ask(world, kind=RequestType.ATTACH, headers=[("caller", b"cleo")])
    assert hang_up(world, "ann", "cancel") == []
    assert hang_up(world, "cleo", "drain") == []
    assert hang_up(world, "ben", "cancel") == [ABORT]


def test_the_last_one_may_let_it_run(world: World) -> None:
    call(world, "ann")
    call(world, "ben")
    hang_up(world, "ann", "cancel")
    assert hang_up(world, "ben", "detach") == []


def test_who_comes_back_is_there(world: World) -> None:
    call(world, "ann")
    call(world, "ann-again")
    assert hang_up(world, "ann", "cancel") == []


@pytest.mark.parametrize("first", ["", "ann"])
def test_one_who_need_not_wait_keeps_it_running(world: World, first: str) -> None:
    """A producer on Kafka, or who was told to come back later."""
    call(world, first)
    call(world, "" if first else "ann")
    assert hang_up(world, "ann", "cancel") == []


def test_more_callers_than_can_be_followed_keep_it_running(world: World) -> None:
    for number in range(MAX_CALLERS + 1):
        call(world, f"c{number}")
    for number in range(MAX_CALLERS + 1):
        assert hang_up(world, f"c{number}", "cancel") == []


def test_looking_and_cancelling_are_no_reason_to_go_on(world: World) -> None:
    call(world, "ann")
    ask(world, kind=RequestType.LOOKUP)
    assert hang_up(world, "ann", "cancel") == [ABORT]


def test_leaving_what_is_over_or_was_never_there_does_nothing(world: World) -> None:
    assert hang_up(world, "ann", "cancel") == []
    call(world, "ann")
    finish(world, work_records(world)[0])
    world.settle_down()
    assert hang_up(world, "ann", "cancel") == []
    assert not world.records("dead-letters")


def test_an_order_that_a_crash_swallowed_is_given_again(world: World) -> None:
    """The entry had it, and what was published with it is gone."""
    call(world, "ann")
    leave(world, "ann", "cancel")
    batch = world.take("dedupe", 0, 10)
    assert batch is not None
    world.landed["requests", 0] = len(world.changelog["requests", 0])
    world.crash(lambda: False)
    assert not orders(world)
    world.settle_down()
    assert orders(world) == [ABORT]


def test_where_a_caller_waits_is_nobody_elses_business(world: World) -> None:
    call(world, "ann")
    ask(world, "acme:k2", body("other"), headers=[("caller", b"ann"), ("on-disconnect", b"cancel")])
    world.settle_down()
    for record in world.records("admitted"):
        assert not {"caller", "on-disconnect"} & {name for name, _ in record.headers}
