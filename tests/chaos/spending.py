"""Limits, counted from outside: no budget passed, no more at once than may be, and the meters know the bills."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from contracts.usage import UsageEvent, UsageKind
from tests.chaos.books import OVERSPENT, Evidence, Finding, Span
from tests.chaos.limits import AT_ONCE, FRUGAL, NARROW, budget_nano

_SKEW_MS = 20 * 60_000  # of clocks that jump here


def overspent(evidence: Evidence) -> Iterator[Finding]:
    """One finding for each limit that was passed, under the key of a request that passed it."""
    for user, events in _bills(evidence).items():
        spent, limit = _sum(events), budget_nano() * len(_months(events))
        if spent > limit:
            yield Finding(OVERSPENT, _last(events), f"{user} spent {spent} nano-dollars of {limit}")
    yield from _too_many_at_once(evidence)
    yield from unlike_the_meters(evidence)


def unlike_the_meters(evidence: Evidence) -> Iterator[Finding]:
    """What nobody gave back, or gave back twice, would be between them and the bills."""
    if evidence.unasked:
        yield Finding(OVERSPENT, "*", f"the meters can't be asked: {evidence.unasked}")
    for user, events in _bills(evidence).items():
        billed, counted = _sum(events), evidence.meters.get((FRUGAL, user), 0)
        if billed != counted and len(_months(events)) == 1:
            sentence = f"{user} was billed {billed} nano-dollars, and the meter counts {counted}"
            yield Finding(OVERSPENT, _last(events), sentence)
    if left := evidence.meters.get((NARROW, ""), 0):
        yield Finding(OVERSPENT, "*", f"nothing runs, and of tenant {NARROW} {left} are still counted")


def _bills(evidence: Evidence) -> dict[str, list[UsageEvent]]:
    """Of each user with a budget."""
    bills: dict[str, list[UsageEvent]] = defaultdict(list)
    for events in evidence.events.values():
        for event in events.values():
            if event.tenant == FRUGAL and event.kind is UsageKind.USAGE:
                bills[event.user].append(event)
    return bills


def _sum(events: list[UsageEvent]) -> int:
    return sum(event.cost_nano for event in events)


def _last(events: list[UsageEvent]) -> str:
    return f"{FRUGAL}:{max(events, key=lambda event: event.accepted_at).idempotency_key}"


def _months(events: list[UsageEvent]) -> set[tuple[int, int]]:
    """In which they may have been let through."""
    times = [event.accepted_at + skew for event in events for skew in (-_SKEW_MS, _SKEW_MS)]
    dates = [datetime.fromtimestamp(at / 1000, UTC) for at in times]
    return {(date.year, date.month) for date in dates}


def _too_many_at_once(evidence: Evidence) -> Iterator[Finding]:
    """At the beginning of each, which is after the meter let it through. It counts until its end, before the meter
    learned of that."""
    running: list[Span] = []
    for span in sorted(evidence.spans, key=lambda span: span.began):
        if not span.key.startswith(f"{NARROW}:") or span.ended <= span.began:
            continue
        running = [*(one for one in running if one.ended > span.began), span]
        if len(running) > AT_ONCE:
            keys = ", ".join(one.key for one in running)
            yield Finding(OVERSPENT, span.key, f"{len(running)} ran at once, not {AT_ONCE}: {keys}")
