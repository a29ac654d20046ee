"""Reconcile on the real broker and the real ledger: every fault that can be planted is caught, named, and mended."""

import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiokafka import ConsumerRecord

from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reconcile.claims import Verdict
from analytics.reconcile.collect import Window, reconcile
from analytics.reconcile.report import Fault, Report, Sums, total
from analytics.repair import repair
from contracts.dead_letter import DeadLetter
from contracts.errors import StackError
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.usage import UsageEvent
from tests.support.history import History, Story, history, stories

pytestmark = pytest.mark.broker
START = int(time.time() * 1000) - 600_000
WINDOW = Window(START - 60_000, START + 300_000)


@pytest.fixture
def both(settings: Settings, embedded: Settings) -> Settings:
    """The session's Kafka, and the embedded ledger of this test."""
    kept = ("clickhouse_path", "clickhouse_database")
    return settings.model_copy(update={name: getattr(embedded, name) for name in kept})


@pytest.fixture
async def past(both: Settings) -> AsyncIterator[History]:
    async with history(both, START) as past:
        yield past


async def store(past: History, ledger: Ledger, *, but: Iterable[UsageEvent] = ()) -> list[ConsumerRecord]:
    """As the sink does, but for these events."""
    left_out = {event.event_id.encode() for event in but}
    records = await past.usage()
    kept = [record for record in records if not any(name in record.value for name in left_out)]
    assert take_in(ledger, kept) == []
    return records


async def settled(past: History, ledger: Ledger, told: Iterable[Story]) -> list[UsageEvent]:
    """All of it in Kafka and in the ledger, every stage done."""
    events = [await past.tell(story) for story in told]
    await store(past, ledger)
    await past.commit()
    return events


async def look(past: History, ledger: Ledger, window: Window = WINDOW) -> Report:
    return await reconcile(past.settings, ledger.client, window)


def named(report: Report) -> set[tuple[Fault, str]]:
    return {(finding.fault, finding.request) for finding in report.findings}


def name_of(event: UsageEvent) -> str:
    return f"{event.tenant}:{event.idempotency_key}"


async def test_a_clean_window(past: History, ledger: Ledger) -> None:
    told = [*stories(30), Story("twice", billed=2), Story("wasted", outcomes=2), Story("no", outcome=Outcome.REJECTED)]
    events = await settled(past, ledger, told)
    report = await look(past, ledger)
    assert (report.clean, report.findings) == (True, [])
    assert {line.name: line.claims for line in report.tenants} == {
        "acme": 3, "tenant-0": 10, "tenant-1": 10, "tenant-2": 10
    }  # fmt: skip
    assert sum(line.claims for line in report.partitions) == 33
    assert sum(line.outcomes.get(Outcome.REJECTED, 0) for line in report.tenants) == 1
    whole = total(report.kafka)
    assert whole == total(report.ledger)
    assert whole == Sums(34, 1, 34 * 21, 34 * 5, 34 * 34, sum(event.cost_nano for event in events))
    assert sum(line.duplicates for line in report.usage) == 1


async def test_a_deleted_row_is_named_by_offset_and_repaired(past: History, ledger: Ledger, both: Settings) -> None:
    events = await settled(past, ledger, [*stories(20), Story("twice", billed=2)])
    gone = [events[4], events[5], events[20]]
    before = ledger.client.query("SELECT * EXCEPT inserted_at FROM usage ORDER BY event_id").result_rows
    ids = [event.event_id for event in gone]
    delete = "ALTER TABLE usage DELETE WHERE event_id IN {ids:Array(String)} SETTINGS mutations_sync = 1"
    ledger.client.command(delete, {"ids": ids})
    report = await look(past, ledger)
    assert not report.clean
    assert named(report) == {(Fault.MISSING, name_of(event)) for event in gone}
    assert set(report.unequal) == {"acme", "tenant-1", "tenant-2"}
    offsets = [offset for spans in report.missing.values() for span in spans for offset in range(span[0], span[1] + 1)]
    assert len(offsets) == 3, "of the event that came twice, one offset is enough"
    with ThreadPoolExecutor(1) as executor:
        repaired = await repair(both, ledger, executor, report.missing)
    assert (repaired.read, repaired.refused) == (3, [])
    assert (await look(past, ledger)).clean
    after = ledger.client.query("SELECT * EXCEPT inserted_at FROM usage ORDER BY event_id").result_rows
    assert after == before


async def test_a_doubled_row(past: History, ledger: Ledger) -> None:
    events = await settled(past, ledger, stories(9))
    columns = "* EXCEPT inserted_at"
    ledger.client.command(
        f"INSERT INTO usage SELECT *, now64(3) FROM (SELECT {columns} FROM usage WHERE event_id = {{id:String}})",
        {"id": events[7].event_id},
    )
    report = await look(past, ledger)
    assert named(report) == {(Fault.DOUBLED, name_of(events[7]))}
    assert report.unequal == [events[7].tenant]
    assert sum(len(line.doubled) for line in report.usage) == 1


async def test_an_event_stored_at_both_of_its_offsets(past: History, ledger: Ledger) -> None:
    """Every offset has exactly one row, and yet it is billed twice."""
    event = await past.tell(Story("twice", billed=2))
    first, second = await past.usage()
    take_in(ledger, [first])
    again = "INSERT INTO usage SELECT * REPLACE (toUInt64({offset:UInt64}) AS offset) FROM usage"
    ledger.client.command(again, {"offset": second.offset})
    await past.commit()
    report = await look(past, ledger)
    assert named(report) == {(Fault.DOUBLED, name_of(event))}
    [finding] = report.findings
    assert finding.place.count(past.topics.usage) == 2


async def test_a_changed_row(past: History, ledger: Ledger) -> None:
    events = await settled(past, ledger, stories(6))
    changed = (
        "ALTER TABLE usage UPDATE cost_nano = cost_nano - 1 WHERE event_id = {id:String} SETTINGS mutations_sync = 2"
    )
    ledger.client.command(changed, {"id": events[2].event_id})
    report = await look(past, ledger)
    assert named(report) == {(Fault.DIFFERS, name_of(events[2]))}
    assert report.unequal == [events[2].tenant]
    assert total(report.kafka).cost_nano - total(report.ledger).cost_nano == 1


async def test_a_row_from_nowhere(past: History, ledger: Ledger) -> None:
    events = await settled(past, ledger, stories(3))
    for topic, offset in (("elsewhere", 0), (past.topics.usage, 10**12)):
        ledger.client.command(
            "INSERT INTO usage SELECT * REPLACE ({id:String} AS event_id, {topic:String} AS topic, "
            "{offset:UInt64} AS offset) FROM (SELECT * FROM usage WHERE event_id = {real:String})",
            {"id": f"made-up-{offset}", "topic": topic, "offset": offset, "real": events[0].event_id},
        )
    report = await look(past, ledger)
    assert report.faults == {Fault.FOREIGN: 2}


FAULTY = {
    Fault.LOST: Story("x", outcome=None, billed=0),
    Fault.UNBILLED: Story("x", billed=0),
    Fault.UNANSWERED: Story("x", outcome=None),
    Fault.UNADMITTED: Story("x", admitted=False),
    Fault.DROPPED: Story("x", admitted=False, outcome=None, billed=0),
}


@pytest.mark.parametrize("fault", FAULTY)
async def test_a_step_that_is_left_out(past: History, ledger: Ledger, fault: Fault) -> None:
    await settled(past, ledger, [*stories(5), FAULTY[fault], *stories(2, tenant="late")])
    report = await look(past, ledger)
    assert named(report) == {(fault, "acme:x")}
    assert report.unequal == []


@pytest.mark.parametrize("change", [{"completion_tokens": 35}, {"outcome": Outcome.TIMED_OUT}, {"event_id": "0" * 32}])
async def test_a_bill_that_is_not_of_the_answer(past: History, ledger: Ledger, change: dict[str, object]) -> None:
    await settled(past, ledger, [*stories(4), Story("x", usage=change)])
    assert named(await look(past, ledger)) == {(Fault.MISBILLED, "acme:x")}


async def test_what_is_in_flight_is_no_fault(past: History, ledger: Ledger) -> None:
    """At each stage: it has not committed past the record, so it will come to it."""
    for story in stories(6):
        await past.tell(story)
    await store(past, ledger)
    await past.tell(Story("running", work=True, outcome=None, billed=0))
    await past.tell(Story("unmetered", outcome=None, billed=0, tenant="tenant-2"))
    await past.tell(Story("unsettled", billed=0))
    await past.tell(Story("unread", admitted=False, outcome=None, billed=0))
    stored = await past.tell(Story("unstored"))
    assert stored not in await past.usage()
    await past.commit(**{"requests": 0, "admitted": 0, "completions": 0, "work.small.interactive": 0, "sink": 0})
    report = await look(past, ledger)
    assert (report.clean, report.findings) == (True, [])
    assert sum(line[Verdict.IN_FLIGHT] for line in report.tenants) == 3
    assert sum(line.on_the_way for line in report.usage) == 7
    await past.commit()
    wrong = named(await look(past, ledger))
    assert wrong == {
        (Fault.LOST, "acme:running"),
        (Fault.LOST, "tenant-2:unmetered"),
        (Fault.UNBILLED, "acme:unsettled"),
        (Fault.DROPPED, "acme:unread"),
        (Fault.MISSING, "acme:unstored"),
    }


async def test_duplicates_and_refusals_on_requests_are_no_faults(past: History, ledger: Ledger) -> None:
    """A retry of a key, a question, and a record that was refused claim nothing."""
    await past.tell(Story("old"))
    past.now += 400_000
    later = Window(past.now - 1000, past.now + 100_000)
    await past.send(past.topics.requests, "acme:old", b"{}", [])
    await past.send(past.topics.requests, "acme:ask", b"", [("ce_type", b"millrace.lookup.v1")])
    bad = await past.send(past.topics.requests, "acme:bad", b"no JSON", [])
    letter = DeadLetter(
        dead_letter_reason="no",
        dead_letter_stage="dedupe",
        dead_letter_topic=past.topics.requests,
        dead_letter_partition=bad.partition,
        dead_letter_offset=bad.offset,
    )
    await past.send(past.topics.dead_letters, "acme:bad", b"no JSON", letter.to_headers())
    await past.commit()
    report = await look(past, ledger, later)
    assert (report.clean, report.findings) == (True, []), "found on admitted, far before the window"
    await past.send(past.topics.requests, "acme:bad", b"{}", [])
    await past.commit()
    assert named(await look(past, ledger, later)) == {(Fault.DROPPED, "acme:bad")}


async def test_a_clock_that_is_half_an_hour_behind_loses_nothing(past: History, ledger: Ledger) -> None:
    behind = Story("behind", behind_ms=1_800_000)
    running = Story("running", behind_ms=1_800_000, work=True, outcome=None, billed=0)
    for story in (*stories(5), behind, running, *stories(2, tenant="late")):
        await past.tell(story)
    await store(past, ledger)
    await past.commit(**{"work.small.interactive": 0})
    report = await look(past, ledger)
    assert (report.clean, report.findings) == (True, [])
    assert sum(line[Verdict.IN_FLIGHT] for line in report.tenants) == 1


async def test_windows_side_by_side_count_each_request_once(past: History, ledger: Ledger) -> None:
    await settled(past, ledger, stories(40))
    middle = (START + past.now) // 2
    halves = [
        await look(past, ledger, window) for window in (Window(WINDOW.since, middle), Window(middle, WINDOW.until))
    ]
    assert all(half.clean for half in halves)
    counts = [sum(line.claims for line in half.tenants) for half in halves]
    assert sum(counts) == 40
    assert min(counts) > 0
    assert sum(total(half.ledger).events for half in halves) == 40


async def test_a_kafka_without_the_topics_is_no_clean_window(past: History, ledger: Ledger) -> None:
    other = past.settings.model_copy(update={"topic_prefix": "nobody-"})
    with pytest.raises(StackError, match="has no topic nobody-usage"):
        await reconcile(other, ledger.client, WINDOW)
