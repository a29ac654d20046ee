"""Shadow runs in the ledger: rows like any others, beside those of the requests that they are of."""

from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.outcomes import Outcome
from contracts.usage import UsageEvent, UsageKind, event_id
from millrace.routing.from_shadow import Compared, Told, comparisons
from tests.support.usage import as_records, as_values, make_events


def shadowed(event: UsageEvent, agreement: str) -> UsageEvent:
    said = {"kind": UsageKind.SHADOW, "model": "large", "shadow_of": "small", "agreement": agreement, "cost_nano": 0}
    told = {"answer_kind": "final", "doubt": "length", "mean_logprob": -0.5, "event_time": event.event_time + 50}
    named = event_id(f"{event.tenant}:{event.idempotency_key}", event.claim, "shadow 0.9")
    return event.model_copy(update=said | told | {"event_id": named})


def test_the_ledger_has_both_runs_side_by_side(ledger: Ledger) -> None:
    events = [event for event in make_events(20) if event.outcome is Outcome.SUCCEEDED][:2]
    first, second = (event.model_copy(update={"model": "small", "answer_kind": "final"}) for event in events)
    rows = [first, second, shadowed(first, "same"), shadowed(first, "same")]
    assert not take_in(ledger, as_records(as_values(rows)))
    expected = Compared(first.feature, Told("large", "final", "length"), Told("small", "final", ""), "same")
    assert comparisons(ledger.client, 0) == {f"{first.tenant}:{first.idempotency_key}": expected}


def test_they_are_in_no_bill_and_no_count_of_requests(ledger: Ledger) -> None:
    (event,) = [event for event in make_events(20) if event.outcome is Outcome.SUCCEEDED][:1]
    assert not take_in(ledger, as_records(as_values([event, shadowed(event, "other")])))
    found = ledger.client.query("SELECT sum(requests), sum(cost_nano) FROM cost_daily").result_rows
    assert [tuple(row) for row in found] == [(1, event.cost_nano)]
