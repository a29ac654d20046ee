"""A limit that was passed must be seen, in books of users that keep within theirs."""

from collections.abc import Callable
from typing import Any

import pytest

from contracts.outcomes import Outcome
from contracts.usage import UsageEvent, UsageKind, event_id
from tests.chaos.books import OVERSPENT, Evidence, Span
from tests.chaos.limits import FRUGAL, NARROW, budget_nano
from tests.chaos.spending import overspent
from tests.support.usage import make_events

USER, KEYS = "user-1", [f"chaos-{number}" for number in range(4)]
NOON = 1_795_435_200_000  # of a day in the middle of a month
SHARE = budget_nano() // 4


def bill(key: str, **changes: Any) -> UsageEvent:
    fields: dict[str, Any] = {"tenant": FRUGAL, "user": USER, "idempotency_key": key, "event_id": event_id(key, "0.1")}
    fields |= {"outcome": Outcome.SUCCEEDED, "kind": UsageKind.USAGE, "cost_nano": SHARE, "accepted_at": NOON}
    return make_events(1)[0].model_copy(update=fields | changes)


def within_limits() -> Evidence:
    """A user with a quarter of its budget in each request; two of the narrow tenant at once, then another two."""
    evidence = Evidence()
    for key in KEYS:
        evidence.add_event(bill(key))
    evidence.meters = {(FRUGAL, USER): 4 * SHARE, (NARROW, ""): 0}
    spans = ((0, 10), (5, 20), (10, 30), (20, 40))
    evidence.spans = [Span(f"{NARROW}:{key}", *times) for key, times in zip(KEYS, spans, strict=True)]
    evidence.spans.append(Span("acme:other", 0, 50))
    return evidence


def one_too_many(evidence: Evidence) -> None:
    evidence.add_event(bill("chaos-9", accepted_at=NOON + 1))
    evidence.meters = {(FRUGAL, USER): 5 * SHARE}


def not_given_back(evidence: Evidence) -> None:
    evidence.meters = {(FRUGAL, USER): 4 * SHARE + 1}


def given_back_twice(evidence: Evidence) -> None:
    evidence.meters = {(FRUGAL, USER): 3 * SHARE}


def still_counted(evidence: Evidence) -> None:
    evidence.meters = {(FRUGAL, USER): 4 * SHARE, (NARROW, ""): 1}


def three_at_once(evidence: Evidence) -> None:
    evidence.spans.append(Span(f"{NARROW}:third", 15, 16))


def unasked(evidence: Evidence) -> None:
    evidence.unasked = "they didn't answer"


def test_who_keeps_within_limits() -> None:
    assert list(overspent(within_limits())) == []


@pytest.mark.parametrize(
    "planted", [one_too_many, not_given_back, given_back_twice, still_counted, three_at_once, unasked]
)
def test_a_limit_that_was_passed_is_found(planted: Callable[[Evidence], None]) -> None:
    evidence = within_limits()
    planted(evidence)
    assert {finding.kind for finding in overspent(evidence)} == {OVERSPENT}


def test_a_month_that_ends_begins_another_budget() -> None:
    evidence = within_limits()
    one_too_many(evidence)
    evidence.add_event(bill("chaos-9", accepted_at=NOON + 1))
    evidence.events.clear()
    for number, key in enumerate([*KEYS, "chaos-9"]):
        evidence.add_event(bill(key, accepted_at=NOON + number * 8 * 86_400_000))
    assert list(overspent(evidence)) == []
