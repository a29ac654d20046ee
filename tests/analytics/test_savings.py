"""What was saved is the difference of two bills that settle could have made."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from aiokafka import ConsumerRecord

from analytics.duplicates import DUPLICATES
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.savings import SavingsReport
from analytics.side_sink import read_rows
from contracts.duplicate import Duplicate
from contracts.errors import InvalidRequest
from contracts.prices import PriceTable, load_prices
from contracts.usage import UsageEvent
from tests.support.usage import as_records, as_values, as_waste, make_events

ASKED = ["auto", "auto:cheap", "small"]
EVENTS = [
    event.model_copy(update={"requested_model": ASKED[number % 3], "cached_tokens": event.prompt_tokens // 3})
    for number, event in enumerate(make_events(900, step_ms=300_000))
]
WASTE = [as_waste(event) for event in EVENTS if event.model][:50]
SINCE = datetime.fromtimestamp(EVENTS[0].event_time / 1000, UTC)
TABLE = load_prices()
REPORT = SavingsReport(TABLE, "large", SINCE, SINCE + timedelta(days=30))


def cost(event: UsageEvent, table: PriceTable, model: str = "", cached: int | None = None) -> int:
    price = table.find(model or event.model, event.model_version, event.event_time)
    if price is None or not event.outcome.billed:
        return 0
    cached = event.cached_tokens if cached is None else cached
    return price.cost(event.prompt_tokens, cached, event.completion_tokens)


def by_tenant(events: list[UsageEvent], nano: Callable[[UsageEvent], int]) -> dict[str, int]:
    found = Counter[str]()
    for event in events:
        found[event.tenant] += nano(event)
    return dict(found)


def test_savings_are_differences_of_bills(ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values([*EVENTS, *WASTE])))
    lines = REPORT.lines(ledger.client)
    routed = [e for e in EVENTS if e.requested_model.startswith("auto") and e.model == "small"]
    tenants = {line.tenant for line in lines}
    assert tenants == {event.tenant for event in EVENTS}

    def same(found: dict[str, int], wanted: dict[str, int]) -> bool:
        return all(found.get(name, 0) == wanted.get(name, 0) for name in tenants) and any(found.values())

    cache = by_tenant(EVENTS, lambda e: cost(e, TABLE, cached=0) - cost(e, TABLE))
    assert same({line.tenant: line.cache_nano for line in lines}, cache)
    routing = by_tenant(routed, lambda e: cost(e, TABLE, "large") - cost(e, TABLE))
    assert same({line.tenant: line.routing_nano for line in lines}, routing)
    assert same({line.tenant: line.waste_nano for line in lines}, by_tenant(WASTE, lambda e: cost(e, TABLE)))
    assert same({line.tenant: line.routed_requests for line in lines}, by_tenant(routed, lambda _: 1))
    assert same({line.tenant: line.cached_tokens for line in lines}, by_tenant(EVENTS, lambda e: e.cached_tokens))
    assert same({line.tenant: line.waste_runs for line in lines}, by_tenant(WASTE, lambda _: 1))


def test_duplicates_count_once_at_what_their_answers_were_billed(ledger: Ledger) -> None:
    take_in(ledger, as_records(as_values(EVENTS)))
    first, second = [event for event in EVENTS if event.cost_nano][:2]
    again = [spared(first, "3.71", "joined"), spared(first, "3.72", "replayed"), spared(second, "0.9", "replayed")]
    no_duplicate = spared(first, EVENTS[5].claim, "joined").model_copy(update={"tenant": EVENTS[5].tenant})
    told = [*again, again[0], no_duplicate]  # Kafka delivers again; and a crash made a claim of a duplicate
    records = [ConsumerRecord("duplicates", 0, 0, 0, 0, None, one.model_dump_json().encode(), *_REST) for one in told]
    rows, _ = read_rows({"duplicates": DUPLICATES}, records)
    ledger.client.insert("duplicates", rows[DUPLICATES], column_names=DUPLICATES.columns)
    lines = REPORT.lines(ledger.client)
    assert sum(line.duplicates for line in lines) == 3
    assert sum(line.duplicate_nano for line in lines) == 2 * first.cost_nano + second.cost_nano
    assert {line.tenant for line in lines if line.duplicates} == {first.tenant, second.tenant}


def spared(event: UsageEvent, place: str, how: Literal["joined", "replayed"]) -> Duplicate:
    return Duplicate(place=place, at=event.event_time + 5, tenant=event.tenant, about=event.event_id, how=how)


_REST = (None, 0, 0, ())


def test_a_period_without_requests(ledger: Ledger) -> None:
    assert REPORT.lines(ledger.client) == []


def test_a_large_model_without_a_price() -> None:
    with pytest.raises(InvalidRequest, match="no model 'huge'"):
        SavingsReport(TABLE, "huge", SINCE, SINCE)
