"""Another price table: what it would make of the ledger is what settle would have billed, to the nano-dollar."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reports import CostReport
from analytics.reprice import Repricing
from contracts.prices import Price, PriceTable
from contracts.usage import UsageEvent, UsageKind
from tests.support.usage import as_records, as_values, as_waste, make_events

EVENTS = make_events(1500, step_ms=250_000)  # four days
ODD = EVENTS[7].model_copy(update={"model": "unheard-of"})
EVENTS[7] = ODD
SINCE = datetime.fromtimestamp(EVENTS[0].event_time / 1000, UTC)
UNTIL = SINCE + timedelta(days=6)
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def price(model: str, since: date, cents: str, version: str | None = None) -> Price:
    return Price(
        model=model,
        model_version=version,
        since=since,
        input=f"{cents}.123456789",
        cached_input=cents,
        output=f"{cents}7.000000001",
        request="0.000000003",
    )


TABLE = PriceTable(
    version="next",
    prices=[
        price("small", date(2025, 1, 1), "1"),
        price("small", date(2025, 10, 11), "2"),  # in the middle of the events
        price("large", date(2025, 1, 1), "30"),
        price("large", date(2025, 10, 12), "40", "2.5"),
    ],
)


def cost(event: UsageEvent) -> int:
    """As settle bills it; a model without a price keeps its cost."""
    if event.kind is not UsageKind.USAGE:
        return event.cost_nano
    found = TABLE.find(event.model, event.model_version, event.event_time)
    if found is None:
        return event.cost_nano
    if not event.outcome.billed:
        return 0
    return found.cost(event.prompt_tokens, event.cached_tokens, event.completion_tokens)


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    take_in(ledger, as_records(as_values([*EVENTS, *[as_waste(e) for e in EVENTS[:40]]])))
    return ledger


def expected() -> tuple[Counter[str], Counter[str]]:
    now, new = Counter[str](), Counter[str]()
    for event in EVENTS:
        now[event.tenant] += event.cost_nano
        new[event.tenant] += cost(event)
    return now, new


def test_the_difference_is_that_of_settle(full: Ledger) -> None:
    lines = Repricing(TABLE, SINCE, UNTIL).differences(full.client)
    now, new = expected()
    assert {line.tenant: line.cost_nano for line in lines} == now
    assert {line.tenant: line.new_nano for line in lines} == new
    assert sum(line.requests for line in lines) == len(EVENTS)
    unpriced = sum(TABLE.find(e.model, e.model_version, e.event_time) is None for e in EVENTS)
    assert sum(line.unpriced for line in lines) == unpriced > 1


def test_adjustments_make_the_difference_and_no_row_is_touched(full: Ledger) -> None:
    repricing = Repricing(TABLE, SINCE, UNTIL)
    before = full.client.query("SELECT * FROM usage ORDER BY event_id").result_rows
    adjustments = list(repricing.adjustments(full.client, NOW, "a better contract"))
    assert len({event.event_id for event in adjustments}) == len(adjustments)
    take_in(full, as_records(as_values(adjustments), first_offset=10_000))
    after = full.client.query("SELECT * FROM usage WHERE kind != 'adjustment' ORDER BY event_id").result_rows
    assert after == before
    lines = {line.group[0]: line for line in CostReport(("tenant",)).lines(full.client)}
    now, new = expected()
    assert {tenant: line.cost_nano for tenant, line in lines.items()} == new
    assert {tenant: line.adjusted_nano for tenant, line in lines.items()} == {t: new[t] - now[t] for t in new}
    assert sum(line.requests for line in lines.values()) == len(EVENTS)
    assert {event.price_version for event in adjustments} == {"next"}
    by_id = {event.event_id: event for event in EVENTS}
    assert all(by_id[event.about].event_time == event.event_time for event in adjustments)
    assert all((event.prompt_tokens, event.engine_us) == (0, 0) for event in adjustments)


def test_doing_it_twice_changes_nothing_and_there_is_a_way_back(full: Ledger) -> None:
    repricing = Repricing(TABLE, SINCE, UNTIL)
    first = list(repricing.adjustments(full.client, NOW, ""))
    take_in(full, as_records(as_values(first), first_offset=10_000))
    assert list(repricing.adjustments(full.client, NOW, "")) == []
    assert all(line.difference_nano == 0 for line in repricing.differences(full.client))
    free = PriceTable(version="free", prices=[p.model_copy(update=_FREE) for p in TABLE.prices])
    for table in (free, TABLE, free):
        some = list(Repricing(table, SINCE, UNTIL).adjustments(full.client, NOW, ""))
        take_in(full, as_records(as_values(some), first_offset=20_000))
    assert all(line.difference_nano == 0 for line in Repricing(free, SINCE, UNTIL).differences(full.client))
    unpriced = sum(e.cost_nano for e in EVENTS if TABLE.find(e.model, e.model_version, e.event_time) is None)
    (everything,) = CostReport(()).lines(full.client)
    assert everything.cost_nano == unpriced


_FREE = {"input": 0, "cached_input": 0, "output": 0, "request": 0}


def test_only_the_period_is_repriced(full: Ledger) -> None:
    since, until = SINCE + timedelta(hours=30), SINCE + timedelta(hours=50, minutes=7)
    inside = [e for e in EVENTS if since <= datetime.fromtimestamp(e.event_time / 1000, UTC) < until]
    lines = Repricing(TABLE, since, until).differences(full.client)
    assert sum(line.new_nano for line in lines) == sum(map(cost, inside))
    found = Repricing(TABLE, since, until).adjustments(full.client, NOW, "")
    assert {event.about for event in found} == {e.event_id for e in inside if cost(e) != e.cost_nano}
