"""What was billed beside what the GPUs cost: every part is there once, and they add up to the hours by their rate."""

from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord

from analytics.clickhouse import Client
from analytics.engine_time import ENGINE_TIME
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.margin import GpuTime, MarginReport, Part
from analytics.side_sink import read_rows
from contracts.engine_time import EngineTime
from contracts.usage import UsageEvent, UsageKind
from tests.support.usage import START_MS, as_records, as_values, as_waste, make_events

SECOND = 1_000_000
RATE = 3_600_000_000  # a nano-dollar each microsecond of a GPU
SINCE, UNTIL = (datetime.fromtimestamp((START_MS + ms) / 1000, UTC) for ms in (0, 3_600_000))


def stretch(sequence: int, worker: str = "w-1", *, last: bool = False, **fields: int) -> EngineTime:
    """Ten seconds on two GPUs."""
    amounts = {"wall_us": 10 * SECOND, "idle_us": 0, "shared_us": 0, "under_way_us": 0} | fields
    since = START_MS + 10_000 * sequence
    return EngineTime(
        worker=worker,
        model="small",
        sequence=sequence,
        last=last,
        since=since,
        until=since + 10_000,
        every_ms=10_000,
        gpus=2,
        gpu_hour_nano=RATE,
        idle_nano=2 * amounts["idle_us"],
        shared_nano=2 * amounts["shared_us"],
        **amounts,
    )


def record(told: EngineTime | bytes, offset: int = 0) -> ConsumerRecord:
    value = told if isinstance(told, bytes) else told.model_dump_json().encode()
    return ConsumerRecord("engine-time", 0, offset, 0, 0, b"small", value, None, 0, 0, ())


def store(client: Client, *told: EngineTime) -> None:
    rows, letters = read_rows({"engine-time": ENGINE_TIME}, [record(one) for one in told])
    assert not letters
    client.insert("engine_time", rows[ENGINE_TIME], column_names=ENGINE_TIME.columns)


def ran(number: int, gpu_nano: int, billed: int) -> UsageEvent:
    found = [event for event in make_events(200) if event.model == "small" and event.outcome.billed][number]
    return found.model_copy(update={"tenant": "acme", "gpu_nano": gpu_nano, "cost_nano": billed})


def test_the_parts_add_up_and_come_once(ledger: Ledger) -> None:
    first = stretch(0, idle_us=4 * SECOND, shared_us=5 * SECOND, under_way_us=SECOND)
    second = stretch(1, idle_us=3 * SECOND, shared_us=8 * SECOND, last=True)
    store(ledger.client, first, second)
    store(ledger.client, first)  # Kafka delivers again
    events = [ran(0, 10 * SECOND, 100), ran(1, 9 * SECOND, 50_000_000)]
    waste = as_waste(events[0]).model_copy(update={"gpu_nano": 4 * SECOND})
    shadow = {"kind": UsageKind.SHADOW, "event_id": "f" * 32, "gpu_nano": SECOND}
    events += [waste, waste.model_copy(update=shadow)]
    take_in(ledger, as_records(as_values(events)))
    margin = MarginReport(SINCE, UNTIL).run(ledger.client)
    assert margin.gpus == [GpuTime("small", 40 * SECOND, 40 * SECOND, 0, 0, 0)]
    assert {(line.tenant, line.part): (line.requests, line.billed_nano, line.gpu_nano) for line in margin.lines} == {
        ("acme", Part.REQUESTS): (2, 50_000_100, 19 * SECOND),
        ("acme", Part.WASTE): (1, 0, 4 * SECOND),
        ("acme", Part.SHADOW): (1, 0, SECOND),
        ("", Part.IDLE): (0, 0, 14 * SECOND),
        ("", Part.UNTOLD): (0, 0, 2 * SECOND),
    }
    assert sum(line.gpu_nano for line in margin.lines) == 40 * SECOND


def test_what_runs_on_after_the_period_is_under_way(ledger: Ledger) -> None:
    store(ledger.client, stretch(0, shared_us=7 * SECOND, under_way_us=3 * SECOND), stretch(1, shared_us=13 * SECOND))
    until = datetime.fromtimestamp(START_MS / 1000 + 10, UTC)
    lines = MarginReport(SINCE, until).run(ledger.client).lines
    assert {line.part: line.gpu_nano for line in lines} == {Part.UNDER_WAY: 6 * SECOND, Part.UNTOLD: 14 * SECOND}
    lines = MarginReport(until, UNTIL).run(ledger.client).lines
    assert {line.part: line.gpu_nano for line in lines} == {Part.UNDER_WAY: -6 * SECOND, Part.UNTOLD: 26 * SECOND}


def test_a_killed_worker_shows_with_what_it_left_untold_at_most(ledger: Ledger) -> None:
    store(ledger.client, stretch(0, "w-1", last=True, idle_us=10 * SECOND), stretch(0, "w-2", idle_us=10 * SECOND))
    (gpu,) = MarginReport(SINCE, UNTIL).run(ledger.client).gpus
    assert (gpu.killed_workers, gpu.untold_us, gpu.untold_nano) == (1, 20 * SECOND, 20 * SECOND)
    before = datetime.fromtimestamp(START_MS / 1000 + 10, UTC)
    assert MarginReport(before, UNTIL).run(ledger.client).gpus == []


def test_views_say_the_same(ledger: Ledger) -> None:
    store(ledger.client, stretch(0, idle_us=4 * SECOND, shared_us=6 * SECOND, seat_us=12 * SECOND, most_running=3))
    asked = ran(0, 12 * SECOND, 100)
    shadow = {"kind": UsageKind.SHADOW, "event_id": "f" * 32, "gpu_nano": SECOND, "cost_nano": 0}
    take_in(ledger, as_records(as_values([asked, asked.model_copy(update=shadow)])))
    hourly = "SELECT gpu_nano, idle_nano, shared_nano, under_way_nano, mean_batch, most_running FROM gpu_hourly"
    assert ledger.client.query(hourly).result_rows == [(20 * SECOND, 8 * SECOND, 12 * SECOND, 0, 2.0, 3)]
    daily = "SELECT tenant, model, requests, cost_nano, gpu_nano, margin_nano, shadow_gpu_nano FROM margin_daily"
    assert ledger.client.query(daily).result_rows == [("acme", "small", 1, 100, 12 * SECOND, 100 - 12 * SECOND, SECOND)]


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", stretch(0).model_dump_json().encode().replace(b'"gpus":2', b'"gpus":-2')]
)
def test_what_is_no_stretch_is_put_aside(value: bytes) -> None:
    rows, [(_, letter)] = read_rows({"engine-time": ENGINE_TIME}, [record(value, 4)])
    assert not rows
    assert (letter.dead_letter_stage, letter.dead_letter_offset) == ("engine_time", 4)
