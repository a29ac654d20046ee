"""Shadow runs in the ledger: rows like any others, beside those of the requests that they are of."""

from aiokafka import ConsumerRecord

from analytics.dashboard.request_life import life
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reconcile.claims import ClaimLog, Verdict
from analytics.reconcile.facts import Facts
from analytics.reconcile.usage_log import UsageLog
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics
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


def test_a_requests_life_tells_how_they_compare(ledger: Ledger) -> None:
    event = next(event for event in make_events(20) if event.outcome is Outcome.SUCCEEDED)
    assert not take_in(ledger, as_records(as_values([shadowed(event, "other"), event])))
    found = ledger.client.query("SELECT * FROM usage")
    rows = [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]
    own, beside = life(rows)["runs"]
    assert (own["kind"], beside["kind"]) == ("usage", "shadow")
    notes = {step["step"]: step["note"] for step in beside["steps"]}
    assert notes["finished"].endswith("not as small answered")
    assert notes["billed"] == "not billed"


def test_reconcile_takes_nothing_that_they_say_for_an_end_of_their_claim() -> None:
    """Not even from a worker that knows of no shadow runs, and reports one as it would any other."""
    topics, place = Topics.of(Settings()), {"claim": b"0.0", "request-key": b"acme:k"}
    facts = Facts(topics, {0: ClaimLog(0, 1)}, {0: UsageLog(0, 0)}, {})
    ended = place | {"outcome": b"succeeded", "completion-tokens": b"5"}
    beside = place | {"shadow-of": b"small"}
    said = [
        (topics.admitted, place),
        (topics.completions, beside | {"outcome": b"failed"}),
        (topics.completions, ended),
        (topics.completions, place | {"outcome": b"shadow"}),
        (topics.work("large", "batch"), beside),
        (topics.completions, beside | {"outcome": b"shadowed", "shadow-outcome": b"succeeded"}),
    ]
    for topic, headers in said:
        facts.take(ConsumerRecord(topic, 0, 0, 0, 0, b"acme:k", b"", None, 0, 0, tuple(headers.items())))
    assert facts.claims[0].counts() == {(1, Verdict.IN_FLIGHT, Outcome.SUCCEEDED): 1}
