"""The count from outside: Kafka's own records, ClickHouse's rows and what clients were told must tell one story."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from contracts.usage import UsageEvent, UsageKind
from tests.chaos.answers import GOING_ON, Deletion, Said, Told

LOST, DOUBLED, CONTRADICTED, UNCOUNTED = "lost", "doubled", "contradicted", "uncounted"
DIFFERED = "differed"  # a stream that was gone on with isn't the unbroken one
OVERSPENT = "overspent"  # a limit was passed, or who was turned away pays
CANCELLED = "cancelled"  # a finish reason


class Run(NamedTuple):
    """One record on `completions`."""

    claim: str
    run: str
    completion_tokens: int


class Row(NamedTuple):
    """One row of the ledger."""

    event_id: str
    kind: str
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int


class Span(NamedTuple):
    """How long a request that was let through was at work, surely: UTC ms."""

    key: str
    began: float
    ended: float


@dataclass
class Evidence:
    """By record key. Records that came twice with the same identity and bytes are one: that is at-least-once."""

    accepted: set[str] = field(default_factory=set)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    finals: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    events: dict[str, dict[str, UsageEvent]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    told: list[Told] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    refusals: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # HTTP statuses of error frames
    spans: list[Span] = field(default_factory=list)
    meters: Mapping[tuple[str, str], int] = field(default_factory=dict)  # see limits.Meters
    unasked: str = ""  # why the meters can't be asked; empty when they can
    unreadable: str = ""  # why the ledger can't be read; empty when it can
    changed: set[str] = field(default_factory=set)  # keys of events that came twice with different contents

    def add_event(self, event: UsageEvent) -> None:
        key = f"{event.tenant}:{event.idempotency_key}"
        if self.events[key].setdefault(event.event_id, event) != event:
            self.changed.add(key)


class Finding(NamedTuple):
    kind: str
    key: str
    sentence: str


class Totals(NamedTuple):
    """Tokens (prompt, completion) of answered requests, three times over; they must be equal."""

    clients: tuple[int, int]
    events: tuple[int, int]
    rows: tuple[int, int]

    @property
    def agree(self) -> bool:
        return self.clients == self.events == self.rows


def balance(evidence: Evidence) -> list[Finding]:
    """Every broken promise, one line each; none when the books balance."""
    clients: dict[str, list[Told]] = defaultdict(list)
    for told in evidence.told:
        clients[told.ask.key].append(told)
    unreadable = [Finding(LOST, "*", f"the ledger can't be read: {evidence.unreadable}")] if evidence.unreadable else []
    return unreadable + [
        Finding(kind, key, sentence)
        for key in sorted(clients.keys() | evidence.accepted)
        for kind, sentence in _of_key(evidence, key, clients[key])
    ]


def totals(evidence: Evidence) -> Totals:
    said = {told.ask.key: told.said for told in evidence.told if told.said}
    billed = [event for key in evidence.events for event in _billed(evidence, key)]
    rows = [row for rows in evidence.rows.values() for row in rows if row.kind == UsageKind.USAGE]
    return Totals(_sum(said.values()), _sum(billed), _sum(rows))


def wasted_tokens(evidence: Evidence, keys: Iterable[str]) -> int:
    """Tokens that were computed, and that nobody pays for."""
    events = [event for key in keys for event in evidence.events.get(key, {}).values()]
    return sum(event.prompt_tokens + event.completion_tokens for event in events if event.kind is UsageKind.WASTE)


def count(evidence: Evidence, kind: UsageKind) -> int:
    return sum(event.kind is kind for events in evidence.events.values() for event in events.values())


def answers(evidence: Evidence) -> list[Said]:
    """As the log has them."""
    return [said for finals in evidence.finals.values() for said in _said(finals)]


def _of_key(evidence: Evidence, key: str, clients: list[Told]) -> Iterator[tuple[str, str]]:
    turned_away = bool(clients) and all(told.refused for told in clients)
    yield from _answers(evidence, key, clients, turned_away=turned_away)
    yield from _bill(evidence, key, turned_away=turned_away)
    yield from _waste(evidence, key)
    yield from _attempts(evidence, key)
    yield from _endings(evidence, key, clients)


def _answers(evidence: Evidence, key: str, clients: list[Told], *, turned_away: bool) -> Iterator[tuple[str, str]]:
    finals = evidence.finals.get(key, set())
    if not (finals or turned_away):
        yield LOST, "no final answer on `responses`"
    if len(finals) > 1:
        yield CONTRADICTED, f"{len(finals)} different final answers on `responses`"
    official = _said(finals)
    for said in official:
        if len(said.text.split()) != said.completion_tokens:  # the synthetic engine's words are its tokens
            yield CONTRADICTED, f"the answer has {len(said.text.split())} tokens, and counts {said.completion_tokens}"
    for told in clients:
        yield from _told(told, official, evidence.refusals.get(key, set()))


def _told(told: Told, official: set[Said], refusals: set[int]) -> Iterator[tuple[str, str]]:
    door = told.ask.door
    if told.differs:
        yield DIFFERED, f"a client ({door}, {told.cuts} cuts) heard another stream: {', '.join(told.differs)}"
    if told.refused:
        if told.refused not in refusals:
            yield CONTRADICTED, f"a client ({door}) was refused with {told.refused}, the log says {refusals}"
    elif told.said is None:
        yield LOST, f"a client ({door}) went without: {[trouble.what for trouble in told.troubles[-3:]]}"
    elif told.said not in official:
        kind = DIFFERED if door in GOING_ON else CONTRADICTED
        yield kind, f"a client ({door}, {told.cuts} cuts) was told {told.said}, the log says {official}"


def _endings(evidence: Evidence, key: str, clients: list[Told]) -> Iterator[tuple[str, str]]:
    """Who cancels is told the truth, and nothing is cancelled that nobody wanted to be."""
    deletions = {deletion.status for deletion in evidence.deletions if deletion.key == key}
    for said in _said(evidence.finals.get(key, set())):
        cancelled = said.finish_reason == CANCELLED
        if cancelled and not (deletions or any(told.ask.on_disconnect == "cancel" for told in clients)):
            yield CONTRADICTED, "it was cancelled, and nobody had asked for that"
        if (409 if cancelled else 200) in deletions:
            yield CONTRADICTED, f"a DELETE was answered {deletions}, the answer ended with {said.finish_reason}"


def _bill(evidence: Evidence, key: str, *, turned_away: bool) -> Iterator[tuple[str, str]]:
    billed = _billed(evidence, key)
    if not (billed or turned_away):
        yield LOST, "no usage event"
    if billed and turned_away:
        yield OVERSPENT, f"every client was turned away, and {len(billed)} were billed"
    if len(billed) > 1:
        yield DOUBLED, f"{len(billed)} usage events: claims {[event.claim for event in billed]}"
    if key in evidence.changed:
        yield CONTRADICTED, "one usage event's id with two contents"
    yield from _rows(evidence, key)
    official = _said(evidence.finals.get(key, set()))
    for event in billed:
        if (event.prompt_tokens, event.completion_tokens) not in {said[3:] for said in official}:
            yield CONTRADICTED, f"billed {event.completion_tokens} tokens, answered {official}"


def _rows(evidence: Evidence, key: str) -> Iterator[tuple[str, str]]:
    rows = evidence.rows.get(key, [])
    known = {event.event_id: _row(event) for event in evidence.events.get(key, {}).values()}
    for row in rows:
        if row != known.get(row.event_id):
            yield CONTRADICTED, f"the ledger has {row}, Kafka {known.get(row.event_id)}"
    ids = [row.event_id for row in rows]
    if len(ids) > len(set(ids)):
        yield DOUBLED, "an event is in the ledger twice"
    if missing := known.keys() - set(ids):
        yield LOST, f"{len(missing)} usage events are not in the ledger"


def _waste(evidence: Evidence, key: str) -> Iterator[tuple[str, str]]:
    """Whatever ran beside the run that answered is counted, and costs nothing."""
    events = evidence.events.get(key, {}).values()
    for event in events:
        if event.kind is not UsageKind.USAGE and event.cost_nano:
            yield DOUBLED, f"{event.kind} was billed"
    ran = {run.run for run in evidence.runs.get(key, []) if run.run}  # what was turned away never ran
    if uncounted := ran - {event.run for event in events}:
        yield UNCOUNTED, f"runs without usage or waste: {uncounted}"


def _attempts(evidence: Evidence, key: str) -> Iterator[tuple[str, str]]:
    """Both rows of an escalated request: who answers second comes after a first, and after a first somebody ends it."""
    events = evidence.events.get(key, {}).values()
    firsts = Counter(event.claim for event in events if event.kind is UsageKind.ESCALATED)
    ends = {event.claim for event in events if event.kind in (UsageKind.USAGE, UsageKind.WASTE)}
    models = {said.model for said in _said(evidence.finals.get(key, set()))}
    for claim, count in firsts.items():
        if count > 1:
            yield DOUBLED, f"{count} first attempts of claim {claim}"
        if claim not in ends:
            yield LOST, f"claim {claim} escalated, and nothing ended it"
    for event in _billed(evidence, key):
        if (event.attempt > 1) != (event.claim in firsts):
            yield CONTRADICTED, f"attempt {event.attempt} was billed, and {firsts[event.claim]} went before it"
        if models and event.model not in models:
            yield CONTRADICTED, f"billed as {event.model}, answered by {models}"
    if shadows := [event for event in events if event.kind is UsageKind.SHADOW]:
        answered = {event.claim for event in events if event.kind is UsageKind.USAGE}
        if any(event.claim not in answered for event in shadows):
            yield UNCOUNTED, "a shadow run of what wasn't answered"


def _said(finals: set[bytes]) -> set[Said]:
    return {Said.of(orjson.loads(final)) for final in finals}


def _billed(evidence: Evidence, key: str) -> list[UsageEvent]:
    """A refusal that was tried again leaves an event as well, of nothing."""
    events = evidence.events.get(key, {}).values()
    return [event for event in events if event.kind is UsageKind.USAGE and event.outcome.billed]


def _row(event: UsageEvent) -> Row:
    return Row(event.event_id, event.kind, event.prompt_tokens, event.completion_tokens, event.cost_nano)


def _sum(counted: Iterable[Said | UsageEvent | Row]) -> tuple[int, int]:
    both = [(item.prompt_tokens, item.completion_tokens) for item in counted]
    return sum(prompt for prompt, _ in both), sum(completion for _, completion in both)


def by_kind(findings: Iterable[Finding], keys: set[str]) -> Mapping[str, int]:
    """How many of these requests each kind of finding touches."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding.key in keys:
            kinds[finding.kind].add(finding.key)
    return {kind: len(touched) for kind, touched in kinds.items()}
