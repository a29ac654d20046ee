"""What the reports say equals what the events say."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import chain, combinations
from typing import Any

import pytest

from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reports import DIMENSIONS, CostLine, CostReport, dollars, request_rows, total
from contracts.errors import InvalidRequest
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from tests.support.usage import as_records, as_values, as_waste, make_events

EVENTS = make_events(3000, step_ms=1_800_000)  # two months
WASTE = [as_waste(event) for event in EVENTS if event.model][::40]


@pytest.fixture(scope="module")
def full(engine_folder: Settings) -> Iterator[Ledger]:
    ledger = Ledger.open(engine_folder.model_copy(update={"clickhouse_database": "reports"}))
    take_in(ledger, as_records(as_values([*EVENTS, *WASTE])))
    yield ledger
    ledger.client.command("DROP DATABASE reports SYNC")
    ledger.close()


def dimension(event: UsageEvent, name: str) -> Any:
    moment = datetime.fromtimestamp(event.event_time / 1000, UTC)
    times: dict[str, Any] = {
        "minute": moment.replace(second=0, microsecond=0),
        "hour": moment.replace(minute=0, second=0, microsecond=0),
        "day": moment.date(),
        "month": date(moment.year, moment.month, 1),
    }
    if name.startswith("tag:"):
        return event.tags.get(name.removeprefix("tag:"), "")
    return times[name] if name in times else str(getattr(event, name))


def expected(by: tuple[str, ...], events: Iterable[UsageEvent]) -> dict[tuple[Any, ...], CostLine]:
    lines: defaultdict[tuple[Any, ...], CostLine] = defaultdict(lambda: CostLine(()))
    for event in events:
        group = tuple(dimension(event, name) for name in by)
        lines[group] += one_line(event)
    return dict(lines)


def one_line(event: UsageEvent) -> CostLine:
    if event.kind is UsageKind.WASTE:
        tokens = event.prompt_tokens + event.completion_tokens
        return CostLine((), waste_runs=1, waste_tokens=tokens, waste_engine_us=event.engine_us)
    return CostLine((), 1, event.prompt_tokens, event.cached_tokens, event.completion_tokens, cost_nano=event.cost_nano)


def by_group(lines: list[CostLine]) -> dict[tuple[Any, ...], CostLine]:
    assert len({line.group for line in lines}) == len(lines)
    return {line.group: CostLine(()) + line for line in lines}


NAMES = [name.replace("tag:NAME", "tag:team") for name in DIMENSIONS]
COMBINATIONS = [
    *chain.from_iterable(combinations(NAMES, size) for size in (0, 1)),
    ("tag:naïve", "tag:team", "api_key_id", "hour"),
    ("tenant", "hour", "month"),
    ("tenant", "user", "feature", "model"),
    ("model", "tenant"),
    ("day", "feature", "model_version", "tenant"),
    ("month", "outcome", "lane", "route"),
]


@pytest.mark.parametrize("by", COMBINATIONS, ids=lambda by: ",".join(by) or "nothing")
def test_each_split_equals_the_sums_of_the_events(full: Ledger, by: tuple[str, ...]) -> None:
    lines = CostReport(by).lines(full.client)
    assert by_group(lines) == expected(by, [*EVENTS, *WASTE])
    everything = total(lines)
    assert everything.cost_nano == sum(event.cost_nano for event in EVENTS)
    assert (everything.requests, everything.waste_runs) == (len(EVENTS), len(WASTE))


@pytest.mark.parametrize(("first", "last"), [(100, 2000), (0, 1), (2999, 3000), (None, 50), (50, None)])
def test_a_period_has_its_beginning_and_not_its_end(full: Ledger, first: int | None, last: int | None) -> None:
    times = [event.event_time for event in EVENTS]
    since = None if first is None else datetime.fromtimestamp(times[first] / 1000, UTC)
    until = None if last is None or last == len(times) else datetime.fromtimestamp(times[last] / 1000, UTC)
    inside = [
        event
        for event in [*EVENTS, *WASTE]
        if (since is None or event.event_time >= times[first or 0])
        and (until is None or event.event_time < times[last or 0])
    ]
    assert by_group(CostReport(("tenant",), since, until).lines(full.client)) == expected(("tenant",), inside)


@pytest.mark.parametrize(
    "only",
    [
        {"tenant": "tenant-3"},
        {"user": "Zoë 4", "lane": "batch"},
        {"tag:team": "search", "outcome": "succeeded"},
        {"feature": 'it\'s \\ odd\n\t"one"'},
        {"tenant": "' OR 1 = 1 --"},
    ],
    ids=str,
)
@pytest.mark.parametrize("by", [(), ("model", "day"), ("tag:team",)], ids=",".join)
def test_only_some(full: Ledger, by: tuple[str, ...], only: dict[str, str]) -> None:
    some = [e for e in [*EVENTS, *WASTE] if all(dimension(e, name) == value for name, value in only.items())]
    lines = CostReport(by, only=only).lines(full.client)
    assert by_group(lines) == (expected(by, some) if by or some else {(): CostLine(())})


def test_the_most_expensive_first_and_times_in_order(full: Ledger) -> None:
    costs = [line.cost_nano for line in CostReport(("user",)).lines(full.client)]
    assert costs == sorted(costs, reverse=True)
    days = [line.group[1] for line in CostReport(("model", "day")).lines(full.client)]
    assert days == sorted(days)


def test_an_empty_ledger_costs_nothing(ledger: Ledger) -> None:
    assert CostReport(("tenant",)).lines(ledger.client) == []
    assert CostReport(()).lines(ledger.client) == [CostLine(())]


@pytest.mark.parametrize(
    "by", [("tag:",), ("tag:a b",), ("cost",), ("tenant; DROP TABLE usage",), ("tenant", "tenant"), ("",)]
)
def test_what_is_no_dimension_is_refused(by: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        CostReport(by)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (1_500_000_000, "1.500000000"),
        (-1, "-0.000000001"),
        (-1_234_567_890_123_456_789, "-1234567890.123456789"),
        (2**63 - 1, "9223372036.854775807"),
    ],
)
def test_dollars_are_exact(nano: int, text: str) -> None:
    assert dollars(nano) == text
    assert dollars(nano, 2) == text[:-7]


def test_a_request_is_found_by_its_key_with_its_wasted_runs(full: Ledger) -> None:
    waste = WASTE[3]
    rows = request_rows(full.client, waste.idempotency_key, waste.tenant)
    assert [(row["kind"], row["tenant"]) for row in rows] == [("usage", waste.tenant), ("waste", waste.tenant)]
    assert rows[0]["accepted_at"] == datetime.fromtimestamp(waste.accepted_at / 1000, UTC)
    assert rows[0]["total_ms"] == 880


@pytest.mark.parametrize("key", ["nope", "' OR 1 = 1 --", "key-0-0000001\\"])
def test_a_key_is_only_ever_a_key(full: Ledger, key: str) -> None:
    assert request_rows(full.client, key) == []


def test_one_key_of_two_tenants(ledger: Ledger) -> None:
    first, second = make_events(2)
    twin = second.model_copy(update={"idempotency_key": first.idempotency_key, "tenant": "other"})
    take_in(ledger, as_records(as_values([first, twin])))
    assert len(request_rows(ledger.client, first.idempotency_key)) == 2
    assert [row["tenant"] for row in request_rows(ledger.client, first.idempotency_key, "other")] == ["other"]
