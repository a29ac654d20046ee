"""Events go into the ledger as they are, each once; what doesn't fit comes back with the reason."""

import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from analytics.block import lines
from analytics.intake import take_in
from analytics.ledger import Ledger, RowsRefused
from contracts.usage import UsageEvent
from tests.support.usage import START_MS, as_records, as_values, as_waste, make_events


def stored(ledger: Ledger) -> list[str]:
    return [row[0] for row in ledger.client.query("SELECT event_id FROM usage ORDER BY event_id").result_rows]


def ids(events: list[UsageEvent]) -> list[str]:
    return sorted(event.event_id for event in events)


@pytest.mark.parametrize("whole", [True, False])
def test_every_field_arrives_as_it_was_sent(ledger: Ledger, whole: bool) -> None:
    events = make_events(500)
    values = [event.model_dump_json(exclude_defaults=not whole).encode() for event in events]
    assert take_in(ledger, as_records(values)) == []
    names = [*UsageEvent.model_fields]
    milliseconds = [
        f"toUnixTimestamp64Milli({name})" if name == "event_time" or name.endswith("_at") else name for name in names
    ]
    rows = ledger.client.query(f"SELECT {', '.join(milliseconds)} FROM usage ORDER BY offset").result_rows
    assert [dict(zip(names, row, strict=True)) for row in rows] == [event.model_dump() for event in events]


def test_rows_say_where_they_came_from_and_how_long_each_step_took(ledger: Ledger) -> None:
    (event,) = make_events(1, seed=2)
    take_in(ledger, as_records(as_values([event]), partition=3, first_offset=2**40))
    columns = "topic, partition, offset, queue_ms, ttft_ms, total_ms, inserted_at > event_time"
    assert ledger.client.query(f"SELECT {columns} FROM usage").result_rows == [
        ("usage", 3, 2**40, 11, 53, 880, True),
    ]


def test_steps_that_never_happened_are_null(ledger: Ledger) -> None:
    event = make_events(1)[0].model_copy(update={"admitted_at": None, "started_at": None, "first_token_at": None})
    take_in(ledger, as_records(as_values([event])))
    columns = "admitted_at, started_at, first_token_at, queue_ms, ttft_ms"
    assert ledger.client.query(f"SELECT {columns} FROM usage").result_rows == [(None,) * 5]


def test_a_block_delivered_again_adds_nothing(ledger: Ledger) -> None:
    records = as_records(as_values(make_events(300)))
    for _ in range(3):
        take_in(ledger, records)
    assert len(stored(ledger)) == 300


def test_the_same_event_at_another_offset_adds_nothing(ledger: Ledger) -> None:
    events = make_events(100)
    take_in(ledger, as_records(as_values(events + events[40:60])))
    take_in(ledger, as_records(as_values(events[50:] + events[:50]), partition=1))
    assert stored(ledger) == ids(events)


def test_waste_is_a_row_of_its_own(ledger: Ledger) -> None:
    events = make_events(10)
    waste = [as_waste(event) for event in events[:3]]
    take_in(ledger, as_records(as_values(events + waste)))
    take_in(ledger, as_records(as_values(waste + events)))
    assert stored(ledger) == ids(events + waste)


def test_a_block_over_many_months(ledger: Ledger) -> None:
    events = make_events(150, step_ms=31 * 86_400_000)
    records = as_records(as_values(events))
    take_in(ledger, records[:90])
    take_in(ledger, records)
    assert stored(ledger) == ids(events)
    assert ledger.client.query("SELECT uniqExact(toYYYYMM(event_time)) FROM usage").result_rows[0][0] > 100


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_any_crash_any_repetition_leaves_each_event_once(ledger: Ledger, data: st.DataObject) -> None:
    """The log repeats events; blocks are cut anywhere; a crash before the commit delivers from an older offset."""
    ledger.client.command("TRUNCATE TABLE usage")
    events = make_events(40, seed=data.draw(st.integers(0, 10**6), label="seed"))
    rng = random.Random(data.draw(st.integers(0, 10**6), label="repeats"))
    log = as_records(as_values([*events, *rng.sample(events, 10)]))
    committed = 0
    while committed < len(log):
        end = data.draw(st.integers(committed + 1, len(log)), label="block ends")
        assert take_in(ledger, log[committed:end]) == []
        if not data.draw(st.booleans(), label="crash before the commit"):
            committed = end
    assert stored(ledger) == ids(events)


def change(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda event: event | fields


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda event: {field: value for field, value in event.items() if field != name}


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no id": (drop("event_id"), "event_id"),
    "empty id": (change(event_id=""), "event_id"),
    "no tenant": (drop("tenant"), "tenant"),
    "no time": (drop("event_time"), "event_time"),
    "null time": (change(event_time=None), "event_time"),
    "time in seconds": (change(event_time=START_MS // 1000), "event_time"),
    "time in microseconds": (change(accepted_at=START_MS * 1000), "accepted_at"),
    "time as text": (change(started_at="soon"), "started_at"),
    "unknown outcome": (change(outcome="exploded"), "outcome"),
    "unknown kind": (change(kind="gift"), "kind"),
    "unknown lane": (change(lane="fast"), "lane"),
    "negative tokens": (change(prompt_tokens=-1), "prompt_tokens"),
    "too many tokens": (change(completion_tokens=2**32), "completion_tokens"),
    "half a token": (change(completion_tokens=1.5), "completion_tokens"),
    "cost as text": (change(cost_nano="much"), "cost_nano"),
    "user as number": (change(user=7), "user"),
    "tags as list": (change(tags=["a"]), "tags"),
    "tag as number": (change(tags={"a": 1}), "tags"),
    "an array": (lambda event: [event], "Not a usage event"),
    "a string": (lambda _: "hello", "Not a usage event"),
    "an empty object": (lambda _: {}, "Not a usage event"),
}

RAW: dict[str, bytes | None] = {
    "nothing": None,
    "empty": b"",
    "no JSON": b"event}",
    "cut short": as_values(make_events(1, seed=9))[0][:200] + b"}",
    "two in one": as_values(make_events(1, seed=9))[0] * 2,
    "two in two lines": b"\n".join(as_values(make_events(2, seed=9))),
    "no UTF-8": as_values(make_events(1, seed=9))[0].replace(b"chat", b"ch\xff\xfet"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_event_that_does_not_fit_comes_back_and_the_others_go_in(ledger: Ledger, name: str) -> None:
    spoil, field = UNFIT[name]
    events = make_events(7)
    bad = orjson.dumps(spoil(events[3].model_dump(mode="json")))
    values = as_values(events)
    values[3] = bad
    (refused,) = take_in(ledger, as_records(values))
    assert refused.record.offset == 3
    assert refused.record.value == bad
    assert field in refused.reason
    assert "DB::" not in refused.reason
    assert stored(ledger) == ids(events[:3] + events[4:])


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_event_at_all_comes_back_and_the_others_go_in(ledger: Ledger, name: str) -> None:
    events = make_events(7)
    values: list[bytes | None] = [*as_values(events)]
    values[3] = RAW[name]
    (refused,) = take_in(ledger, as_records(values))
    assert (refused.record.offset, refused.record.value) == (3, RAW[name])
    assert stored(ledger) == ids(events[:3] + events[4:])


def test_nothing_of_a_refused_block_goes_in(ledger: Ledger) -> None:
    values = as_values(make_events(5))
    values[4] = values[4].replace(b'"status":', b'"status":"x')
    with pytest.raises(RowsRefused):
        ledger.insert(lines(as_records(values)), len(values))
    assert stored(ledger) == []


def test_two_events_in_one_record_do_not_hide_one_that_does_not_fit(ledger: Ledger) -> None:
    """So many events fit as there are records, and still the block is not what it should be."""
    events = make_events(3)
    two = as_values(events[:1])[0] + b"\n" + as_values(events[1:2])[0].replace(b'"status":', b'"status":-')
    (refused,) = take_in(ledger, as_records([two, as_values(events)[2]]))
    assert refused.record.offset == 0
    assert stored(ledger) == ids(events[2:])


def test_what_does_not_fit_the_ledger_is_named(ledger: Ledger) -> None:
    values = as_values(make_events(5))
    values[2] = values[2].replace(b'"prompt_tokens":', b'"prompt_tokens":-1')
    with pytest.raises(RowsRefused, match=r"^prompt_tokens doesn't fit$"):
        ledger.insert(lines(as_records(values)), len(values))
    values[2] += b"\n" + as_values(make_events(1, seed=3))[0]
    with pytest.raises(RowsRefused):
        ledger.insert(lines(as_records(values)), len(values))
    assert stored(ledger) == []


def test_a_small_block_after_a_large_one(ledger: Ledger) -> None:
    events = make_events(900)
    for start, end in ((0, 700), (700, 701), (701, 900)):
        assert take_in(ledger, as_records(as_values(events[start:end]), first_offset=start)) == []
    assert stored(ledger) == ids(events)


def test_a_field_of_a_later_version_does_not_matter(ledger: Ledger) -> None:
    events = make_events(3)
    values = [orjson.dumps(event.model_dump(mode="json") | {"mood": {"a": [1]}}) for event in events]
    assert take_in(ledger, as_records(values)) == []
    assert stored(ledger) == ids(events)


def test_a_record_cannot_name_its_own_offset(ledger: Ledger) -> None:
    (event,) = make_events(1)
    forged = orjson.dumps(event.model_dump(mode="json") | {"offset": 7, "topic": "other"})
    take_in(ledger, as_records([forged], first_offset=42))
    assert ledger.client.query("SELECT topic, offset FROM usage").result_rows == [("usage", 42)]


def test_fields_left_out_have_the_contracts_defaults(ledger: Ledger) -> None:
    (event,) = make_events(1)
    bare = event.model_dump_json(
        include={name for name, field in UsageEvent.model_fields.items() if field.is_required()}
    )
    take_in(ledger, as_records([bare.encode()]))
    assert ledger.client.query("SELECT kind, lane, tags, cost_nano, started_at FROM usage").result_rows == [
        ("usage", "interactive", {}, 0, None)
    ]
