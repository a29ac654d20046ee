"""The count must see what a fault could do: each broken promise, planted in books that balance."""

from collections.abc import Callable

import orjson
import pytest

from contracts.outcomes import Outcome
from contracts.usage import UsageEvent, UsageKind, event_id
from tests.chaos.answers import Ask, Deletion, Door, Said, Told
from tests.chaos.books import (
    CONTRADICTED,
    DIFFERED,
    DOUBLED,
    LOST,
    OVERSPENT,
    UNCOUNTED,
    Evidence,
    Row,
    Run,
    balance,
    by_kind,
    totals,
    wasted_tokens,
)
from tests.support.usage import as_waste, make_events

SUCCEEDED = {
    "outcome": Outcome.SUCCEEDED,
    "status": 200,
    "completion_tokens": 7,
    "prompt_tokens": 3,
    "cost_nano": 5,
    "model": "small",
}
EVENT = make_events(1)[0].model_copy(update=SUCCEEDED)
KEY = f"{EVENT.tenant}:{EVENT.idempotency_key}"


TEXT = "one two three four five six seven"


def final(text: str = TEXT, completion_tokens: int = 7, finish_reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 3, "completion_tokens": completion_tokens}
    return orjson.dumps({"model": "small", "choices": [choice], "usage": usage})


def row(event: UsageEvent) -> Row:
    return Row(event.event_id, event.kind, event.prompt_tokens, event.completion_tokens, event.cost_nano)


def balanced() -> Evidence:
    """One request, its worker killed once: two runs, one answer, one bill, one waste."""
    waste = as_waste(EVENT).model_copy(update={"run": "second"})
    said = Said.of(orjson.loads(final()))
    told = Told(Ask(KEY, Door.WHOLE, {}), 0.0, said, 1.0, over=True)
    evidence = Evidence(accepted={KEY}, told=[told])
    evidence.finals[KEY] = {final()}
    for event in (EVENT, waste):
        evidence.add_event(event)
        evidence.rows[KEY].append(row(event))
        evidence.runs[KEY].append(Run(event.claim, event.run, event.completion_tokens))
    return evidence


def other_answer(evidence: Evidence) -> None:
    evidence.finals[KEY].add(final(TEXT.upper()))


def other_told(evidence: Evidence) -> None:
    evidence.told[0].said = Said(TEXT.upper(), "small", "stop", 3, 7)


def other_resumed(evidence: Evidence) -> None:
    said = Said(TEXT.replace("three four", "drei vier"), "small", "stop", 3, 7)  # two runs in one text
    evidence.told.append(Told(Ask(KEY, Door.RESUMED, {}, cuts=2), 0.0, said, 1.0, over=True, cuts=2))


def resumed_with_an_event_twice(evidence: Evidence) -> None:
    said = evidence.told[0].said
    evidence.told.append(
        Told(Ask(KEY, Door.SOCKET, {}), 0.0, said, 1.0, over=True, cuts=1, differs=["an event came twice"])
    )


def cancelled_unasked(evidence: Evidence) -> None:
    ended = final(finish_reason="cancelled")
    evidence.finals[KEY] = {ended}
    evidence.told[0].said = Said.of(orjson.loads(ended))


def cancelled_in_word_only(evidence: Evidence) -> None:
    evidence.deletions.append(Deletion(KEY, 200))


def cancelled_and_denied(evidence: Evidence) -> None:
    cancelled_unasked(evidence)
    evidence.deletions.append(Deletion(KEY, 409))


def tokens_unlike_the_text(evidence: Evidence) -> None:
    ended = final("one two three four")
    evidence.finals[KEY] = {ended}
    evidence.told[0].said = Said.of(orjson.loads(ended))


def refused_in_word_only(evidence: Evidence) -> None:
    evidence.told.append(Told(Ask(KEY, Door.WHOLE, {}, limited=True), 0.0, over=True, refused=429))


def refused_and_billed(evidence: Evidence) -> None:
    evidence.told = [Told(Ask(KEY, Door.WHOLE, {}, limited=True), 0.0, over=True, refused=429)]
    evidence.refusals[KEY] = {429}


def unanswered(evidence: Evidence) -> None:
    evidence.told[0].said = None


def unknown_to_clients(evidence: Evidence) -> None:
    evidence.told.clear()
    evidence.finals.clear()


def billed_twice(evidence: Evidence) -> None:
    evidence.add_event(EVENT.model_copy(update={"event_id": event_id(KEY, "9.9"), "claim": "9.9"}))


def unbilled(evidence: Evidence) -> None:
    del evidence.events[KEY][EVENT.event_id]


def row_missing(evidence: Evidence) -> None:
    evidence.rows[KEY].pop()


def row_doubled(evidence: Evidence) -> None:
    evidence.rows[KEY].append(evidence.rows[KEY][0])


def row_of_nothing(evidence: Evidence) -> None:
    evidence.rows[KEY].append(Row("0" * 32, "usage", 1, 1, 1))


def row_changed(evidence: Evidence) -> None:
    evidence.rows[KEY][0] = evidence.rows[KEY][0]._replace(completion_tokens=8)


def event_changed(evidence: Evidence) -> None:
    evidence.add_event(EVENT.model_copy(update={"cost_nano": 6}))


def tokens_unlike_the_answer(evidence: Evidence) -> None:
    evidence.finals[KEY] = {final(completion_tokens=8)}


def waste_billed(evidence: Evidence) -> None:
    [(waste_id, waste)] = [(i, e) for i, e in evidence.events[KEY].items() if e.kind is UsageKind.WASTE]
    evidence.events[KEY][waste_id] = waste.model_copy(update={"cost_nano": 1})


def run_uncounted(evidence: Evidence) -> None:
    evidence.runs[KEY].append(Run(EVENT.claim, "third", 7))


def escalated() -> Evidence:
    """One request, whose first answer didn't stand, and a shadow run of it."""
    evidence = balanced()
    del evidence.events[KEY], evidence.rows[KEY], evidence.runs[KEY]
    bill = EVENT.model_copy(update={"attempt": 2, "escalated": "unsure", "model": "small"})
    other = {"cost_nano": 0, "unbilled_nano": 3}
    first = EVENT.model_copy(update=other | {"event_id": FIRST, "kind": UsageKind.ESCALATED, "run": "first"})
    shadow = EVENT.model_copy(update=other | {"event_id": "f" * 32, "kind": UsageKind.SHADOW, "run": "shadow"})
    for event in (bill, first, shadow):
        evidence.add_event(event)
        evidence.rows[KEY].append(row(event))
        evidence.runs[KEY].append(Run(event.claim, event.run, event.completion_tokens))
    return evidence


FIRST = event_id(KEY, EVENT.claim, "attempt 1")


def first_attempt_lost(evidence: Evidence) -> None:
    del evidence.events[KEY][FIRST]
    evidence.rows[KEY] = [row for row in evidence.rows[KEY] if row.event_id != FIRST]


def first_attempt_twice(evidence: Evidence) -> None:
    again = evidence.events[KEY][FIRST].model_copy(update={"event_id": "a" * 32})
    evidence.add_event(again)
    evidence.rows[KEY].append(row(again))


def first_attempt_billed(evidence: Evidence) -> None:
    evidence.events[KEY][FIRST] = evidence.events[KEY][FIRST].model_copy(update={"cost_nano": 1})


def never_ended(evidence: Evidence) -> None:
    evidence.events[KEY][FIRST] = evidence.events[KEY][FIRST].model_copy(update={"claim": "9.9"})


def billed_as_another_model(evidence: Evidence) -> None:
    bill = evidence.events[KEY][EVENT.event_id]
    evidence.events[KEY][EVENT.event_id] = bill.model_copy(update={"model": "large"})


def shadow_of_nothing(evidence: Evidence) -> None:
    evidence.events[KEY]["f" * 32] = evidence.events[KEY]["f" * 32].model_copy(update={"claim": "9.9"})


def test_an_escalated_request_has_both_rows() -> None:
    evidence = escalated()
    assert balance(evidence) == []
    assert totals(evidence).agree


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (first_attempt_lost, CONTRADICTED),
        (first_attempt_twice, DOUBLED),
        (first_attempt_billed, DOUBLED),
        (never_ended, LOST),
        (billed_as_another_model, CONTRADICTED),
        (shadow_of_nothing, UNCOUNTED),
    ],
)
def test_what_is_wrong_between_attempts_is_found(planted: Callable[[Evidence], None], kind: str) -> None:
    evidence = escalated()
    planted(evidence)
    assert kind in {finding.kind for finding in balance(evidence)}


def test_balanced_books() -> None:
    evidence = balanced()
    assert balance(evidence) == []
    assert totals(evidence).agree
    assert wasted_tokens(evidence, [KEY]) == 10


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        (other_answer, CONTRADICTED),
        (other_told, CONTRADICTED),
        (other_resumed, DIFFERED),
        (resumed_with_an_event_twice, DIFFERED),
        (cancelled_unasked, CONTRADICTED),
        (cancelled_in_word_only, CONTRADICTED),
        (cancelled_and_denied, CONTRADICTED),
        (tokens_unlike_the_text, CONTRADICTED),
        (refused_in_word_only, CONTRADICTED),
        (refused_and_billed, OVERSPENT),
        (unanswered, LOST),
        (unknown_to_clients, LOST),
        (billed_twice, DOUBLED),
        (unbilled, LOST),
        (row_missing, LOST),
        (row_doubled, DOUBLED),
        (row_of_nothing, CONTRADICTED),
        (row_changed, CONTRADICTED),
        (event_changed, CONTRADICTED),
        (tokens_unlike_the_answer, CONTRADICTED),
        (waste_billed, DOUBLED),
        (run_uncounted, UNCOUNTED),
    ],
)
def test_a_broken_promise_is_found(planted: Callable[[Evidence], None], kind: str) -> None:
    evidence = balanced()
    planted(evidence)
    findings = balance(evidence)
    assert kind in {finding.kind for finding in findings}, findings
    assert by_kind(findings, {KEY})[kind] == 1
    assert by_kind(findings, {"acme:another"}) == {}


def test_a_refusal_before_the_answer_is_no_second_bill() -> None:
    evidence = balanced()
    refusal = EVENT.model_copy(
        update={
            "event_id": event_id(KEY, "0.99"),
            "claim": "0.99",
            "outcome": Outcome.REJECTED,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cost_nano": 0,
        }
    )
    evidence.add_event(refusal)
    evidence.rows[KEY].append(row(refusal))
    assert balance(evidence) == []
    assert totals(evidence).agree


def test_who_is_turned_away_needs_no_answer() -> None:
    told = Told(Ask(KEY, Door.WHOLE, {}, limited=True), 0.0, over=True, refused=429)
    evidence = Evidence(accepted={KEY}, told=[told])
    evidence.refusals[KEY] = {429}
    assert balance(evidence) == []
    assert totals(evidence).agree


@pytest.mark.parametrize("wanted", ["by a DELETE", "by hanging up"])
def test_what_was_cancelled_as_somebody_wished(wanted: str) -> None:
    evidence = balanced()
    cancelled_unasked(evidence)
    if wanted == "by a DELETE":
        evidence.deletions.append(Deletion(KEY, 200))
    else:
        ask = Ask(KEY, Door.STREAMED, {}, on_disconnect="cancel", leaves_after=1.0)
        evidence.told.append(Told(ask, 0.0, evidence.told[0].said, 1.0, over=True, left=True))
    assert balance(evidence) == []


def test_sums_that_differ() -> None:
    evidence = balanced()
    row_changed(evidence)
    assert not totals(evidence).agree
