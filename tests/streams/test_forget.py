"""An answer that is forgotten is gone for whoever asks; its key and its bill stay."""

import pytest

from contracts.envelope import RequestType
from contracts.outcomes import Outcome
from streams.entry import Entry
from tests.streams.actors import ask, finish, frames, text, usage_events, work_records
from tests.streams.world import World


def forget(world: World, key: str = "acme:k1") -> None:
    ask(world, key, kind=RequestType.FORGET)
    world.settle_down()


def answered(world: World, outcome: Outcome = Outcome.SUCCEEDED) -> bytes:
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0], outcome)
    world.settle_down()
    return frames(world)[-1].value


def stored(world: World) -> list[Entry]:
    tables = [table for (name, _), table in world.tables.items() if name == "requests"]
    return [Entry.decode(value) for table in tables for value in table.entries.values()]


def test_nobody_is_told_it_any_more_and_nothing_runs_or_costs_again(world: World) -> None:
    answer = answered(world)
    told, bills = len(frames(world)), usage_events(world)
    forget(world)
    assert len(frames(world)) == told
    assert all(answer not in entry.body for entry in stored(world))
    for kind in (RequestType.REQUEST, RequestType.LOOKUP, RequestType.ATTACH):
        ask(world, kind=kind)
        world.settle_down()
        assert answer not in frames(world)[-1].value
        assert b"answer_forgotten" in frames(world)[-1].value
    assert (text(frames(world)[told], "kind"), text(frames(world)[told], "status")) == ("error", "410")
    assert usage_events(world) == bills
    assert len(work_records(world)) == 1


def test_a_crash_that_has_all_read_again_changes_nothing(world: World) -> None:
    answered(world)
    bills = {event.model_dump_json() for event in usage_events(world)}
    forget(world)
    world.crash(lambda: True)
    world.settle_down()
    assert {event.model_dump_json() for event in usage_events(world)} == bills
    assert all(b"answer_forgotten" in entry.body for entry in stored(world))


@pytest.mark.parametrize("ends", [True, False])
def test_what_runs_or_is_unknown_is_left_alone(world: World, *, ends: bool) -> None:
    forget(world)
    assert stored(world) == []
    ask(world)
    world.settle_down()
    forget(world)
    if ends:
        finish(world, work_records(world)[0])
        world.settle_down()
        assert text(frames(world)[-1], "outcome") == "succeeded"
