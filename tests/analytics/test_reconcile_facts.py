"""The verdict on a claim and on an offset depends on what is said of it, not on the order or on how often."""

import random
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.reconcile.claims import (
    ADMITTED,
    BILLED,
    ENDED,
    UNSETTLED,
    WAITING,
    WASTED,
    WRONG,
    ClaimLog,
    Verdict,
    verdict,
)
from analytics.reconcile.report import Fault, Sums, total
from analytics.reconcile.usage_log import Offsets, UsageLog, apart, ranges
from analytics.repair import portions
from contracts.outcomes import Outcome

ALL = (ADMITTED, WAITING, ENDED, UNSETTLED, BILLED, WASTED, WRONG)
FIRST, COUNT = 1000, 12

Said = tuple[str, int]
FACTS = ("admitted", "waiting", "ended", "billed", "billed wrongly", "wasted")


def say(log: ClaimLog, fact: str, offset: int) -> None:
    tenant = 1 + offset % 3
    match fact:
        case "admitted":
            log.admitted(offset, tenant)
        case "waiting":
            log.waiting(offset, tenant)
        case "ended":
            log.ended(offset, tenant, Outcome.SUCCEEDED, 7, settled=True)
        case "billed":
            log.billed(offset, tenant, 7, genuine=True)
        case "billed wrongly":
            log.billed(offset, tenant, 8, genuine=True)
        case _:
            log.wasted(offset, tenant)


def told(said: list[Said]) -> ClaimLog:
    log = ClaimLog(FIRST, FIRST + COUNT)
    for fact, offset in said:
        say(log, fact, offset)
    return log


said = st.lists(st.tuples(st.sampled_from(FACTS), st.integers(FIRST - 2, FIRST + COUNT + 2)), max_size=60)


@given(said, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_gives_the_same(facts: list[Said], rng: random.Random) -> None:
    again = facts + rng.choices(facts, k=10) if facts else []
    rng.shuffle(again)
    one, other = told(facts), told(again)
    assert one.counts() == other.counts()
    assert list(one.faults()) == list(other.faults())


@given(said)
def test_counts_faults_and_pending_agree(facts: list[Said]) -> None:
    log = told(facts)
    off = Counter(known for _, known, _ in log.faults())
    counted: Counter[Verdict] = Counter()
    for (_, known, _), count in log.counts().items():
        counted[known] += count
    assert off == {known: count for known, count in counted.items() if not known.fine}
    assert log.pending() == any(known not in (Verdict.SETTLED, Verdict.SUPERSEDED) for known in counted)


@given(said)
def test_a_request_is_well_only_if_it_is_admitted_answered_and_billed_alike(facts: list[Said]) -> None:
    by_offset = {offset: {fact for fact, at in facts if at == offset} for offset in range(FIRST, FIRST + COUNT)}
    expected = sum(
        {"admitted", "ended", "billed"} <= known and "billed wrongly" not in known for known in by_offset.values()
    )
    counts = told(facts).counts()
    assert sum(count for (_, known, _), count in counts.items() if known is Verdict.SETTLED) == expected


def test_every_combination_of_facts_has_its_verdict() -> None:
    subsets = [sum(some) for size in range(len(ALL) + 1) for some in combinations(ALL, size)]
    for facts in subsets:
        found = verdict(facts)
        if facts & BILLED and not facts & ENDED:
            assert found is Verdict.UNANSWERED
        if found is Verdict.SETTLED:
            assert facts & ADMITTED
            assert not facts & WRONG
        if found is None:
            assert not facts & (ADMITTED | ENDED | BILLED)
    assert {verdict(facts) for facts in subsets} == {None, *Verdict}


def test_the_first_outcome_counts() -> None:
    log = ClaimLog(0, 1)
    log.admitted(0, 1)
    log.ended(0, 1, Outcome.FAILED, 1, settled=True)
    log.ended(0, 1, Outcome.SUCCEEDED, 2, settled=False)
    log.billed(0, 1, 1, genuine=True)
    assert log.counts() == {(1, Verdict.SETTLED, Outcome.FAILED): 1}


def test_every_verdict_that_is_not_fine_is_a_fault() -> None:
    assert {known.value for known in Verdict if not known.fine} <= {fault.value for fault in Fault}


@given(st.sets(st.integers(0, 200)))
def test_ranges_hold_exactly_their_offsets(offsets: set[int]) -> None:
    spans = ranges(sorted(offsets))
    assert {offset for span in spans for offset in range(span.first, span.last + 1)} == offsets
    assert apart(spans)


@pytest.mark.parametrize("spans", [[(5, 6), (1, 2)], [(1, 3), (3, 4)]])
def test_ranges_that_overlap_are_not_apart(spans: list[tuple[int, int]]) -> None:
    assert not apart([Offsets(*span) for span in spans])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50), st.sets(st.integers(0, 49)), st.sets(st.integers(0, 49)))
def test_offsets_against_rows(rows: list[int], gaps: set[int], changed: set[int]) -> None:
    """`rows`: how many each offset has; `gaps` have no record, `changed` have a row that says something else."""
    log = UsageLog(100, 100 + len(rows))
    places = range(len(rows))
    for place in places:
        if place not in gaps:
            log.record(100 + place, place + 1)
    for place in reversed(places):
        for _ in range(rows[place]):
            log.row(100 + place, 999 if place in changed else place + 1)
    assert list(log.missing()) == [100 + place for place in places if not rows[place] and place not in gaps]
    assert log.doubled() == [(100 + place, rows[place]) for place in places if rows[place] > 1]
    assert set(log.differing) == {
        100 + place for place in places if rows[place] and (place in changed or place in gaps)
    }
    assert log.records == len(rows) - len(gaps & set(places))
    assert log.stored == sum(1 for count in rows if count)
    for offset in list(log.missing()):
        log.excuse(offset)
    assert list(log.missing()) == []


@given(st.lists(st.sets(st.integers(0, 60)), max_size=3), st.integers(1, 20))
def test_portions_hold_every_offset_once_and_no_more_than_they_may(offsets: list[set[int]], most: int) -> None:
    missing = {number: ranges(sorted(some)) for number, some in enumerate(offsets)}
    cut = [
        [
            (number, offset)
            for number, spans in portion.items()
            for span in spans
            for offset in range(span[0], span[1] + 1)
        ]
        for portion in portions(missing, most)
    ]
    assert all(0 < len(portion) <= most for portion in cut)
    assert sorted(place for portion in cut for place in portion) == [
        (number, offset) for number, some in enumerate(offsets) for offset in sorted(some)
    ]


def test_sums_add_and_take_away() -> None:
    one, other = Sums(1, 0, 21, 5, 34, 10**12 + 1), Sums(2, 1, 3, 4, 5, 6)
    whole = total({"a": one, "b": other})
    assert whole == Sums(3, 1, 24, 9, 39, 10**12 + 7)
    whole.add(other, -1)
    assert whole == one
