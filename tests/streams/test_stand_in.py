"""A stage that fails on a record: whoever waits is told, nobody is billed, and the record rests in dead letters."""

from typing import Any, NoReturn

import orjson
import pytest

from contracts.dead_letter import DeadLetter
from contracts.envelope import RequestType
from contracts.outcomes import Outcome
from streams.dedupe import Dedupe
from streams.entry import Entry
from streams.meter import Meter
from streams.reservation import Hold, Reservation
from streams.settle import Settle
from streams.tally import Tally
from tests.streams.actors import ask, finish, frames, text, usage_events, work_records
from tests.streams.world import Defect, Produced, World


def fails(*_: Any, **__: Any) -> NoReturn:
    raise Defect


def letter(world: World) -> DeadLetter:
    (record,) = world.records("dead-letters")
    return DeadLetter.from_headers(record.headers)


def told(world: World) -> Produced:
    (frame,) = frames(world)
    assert text(frame, "status") == "500"
    assert orjson.loads(frame.value)["error"]["code"] == "internal_error"
    return frame


def runs_again(world: World) -> None:
    """The same key, after the defect is mended."""
    before = len(work_records(world))
    ask(world)
    world.settle_down()
    (work,) = work_records(world)[before:]
    finish(world, work)
    world.settle_down()
    assert text(frames(world)[-1], "kind") == "final"
    assert [event.outcome for event in usage_events(world) if event.cost_nano] == [Outcome.SUCCEEDED]


def test_what_dedupe_fails_on_changes_nothing_and_its_asker_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as defect:
        defect.setattr(Dedupe, "_ask", fails)
        asked = ask(world)
        world.settle_down()
    assert (letter(world).dead_letter_stage, letter(world).dead_letter_outcome) == ("dedupe", "")
    assert text(told(world), "in-reply-to") == text(asked, "ce_id")
    assert b"acme:k1" not in world.tables["requests", 0].entries
    runs_again(world)


def test_what_the_meter_fails_on_is_turned_away_and_its_key_is_free(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as defect:
        defect.setattr(Meter, "admit", fails)
        ask(world)
        ask(world, reply_to="responses.mine")
        world.settle_down()
    assert (letter(world).dead_letter_stage, letter(world).dead_letter_outcome) == ("meter", "rejected")
    assert text(told(world), "outcome") == "rejected"
    assert [frame.value for frame in frames(world, "responses.mine")] == [told(world).value]
    (event,) = usage_events(world)
    assert (event.outcome, event.cost_nano) == (Outcome.REJECTED, 0)
    runs_again(world)


def test_what_settle_fails_on_ends_as_failed_for_everybody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(world)
    ask(world, reply_to="responses.mine")
    world.settle_down()
    publish = Settle._publish

    def fails_on_answers(self: Settle, entry: Entry, *rest: Any) -> Any:
        return fails() if entry.answer and entry.answer.outcome is Outcome.SUCCEEDED else publish(self, entry, *rest)

    monkeypatch.setattr(Settle, "_publish", fails_on_answers)
    ended = finish(world, work_records(world)[0])
    world.settle_down()
    assert (letter(world).dead_letter_stage, letter(world).dead_letter_outcome) == ("settle", "failed")
    assert world.records("dead-letters")[0].value == ended.value
    assert [frame.value for frame in frames(world, "responses.mine")] == [told(world).value]
    (event,) = usage_events(world)
    assert (event.outcome, event.cost_nano, event.completion_tokens) == (Outcome.FAILED, 0, 0)
    asked = ask(world)
    world.settle_down()
    replay = frames(world)[-1]
    assert (text(replay, "in-reply-to"), text(replay, "replayed")) == (text(asked, "ce_id"), "1")
    reserved = [value for key, value in world.tables["tenants", 0].entries.items() if key.startswith(b"r\0")]
    assert [Reservation.decode(value).hold for value in reserved] == [Hold.SETTLED]


def test_where_even_that_fails_the_first_asker_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(world)
    world.settle_down()
    monkeypatch.setattr(Settle, "_publish", fails)
    finish(world, work_records(world)[0])
    world.settle_down()
    assert len(world.records("dead-letters")) == 2
    told(world)


def test_nobody_waits_for_a_usage_event(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tally, "_settle", fails)
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0])
    world.settle_down()
    assert letter(world).dead_letter_topic == "usage"
    assert [text(frame, "kind") for frame in frames(world)] == ["final"]


def test_a_question_that_fails_is_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dedupe, "_serve", fails)
    asked = ask(world, kind=RequestType.LOOKUP)
    world.settle_down()
    assert text(told(world), "in-reply-to") == text(asked, "ce_id")
