"""The count from outside: Kafka's own records, ClickHouse's rows and what clients were told must tell one story."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from contracts.usage import UsageEvent, UsageKind
from tests.chaos.answers import Said, Told

LOST, DOUBLED, CONTRADICTED, UNCOUNTED = "lost", "doubled", "contradicted", "uncounted"


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


@dataclass
class Evidence:
    """By record key. Records that came twice with the same identity and bytes are one: that is at-least-once."""

    accepted: set[str] = field(default_factory=set)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    finals: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    events: dict[str, dict[str, UsageEvent]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    told: list[Told] = field(default_factory=list)
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


def _of_key(evidence: Evidence, key: str, clients: list[Told]) -> Iterator[tuple[str, str]]:
    yield from _answers(evidence, key, clients)
    yield from _bill(evidence, key)
    yield from _waste(evidence, key)


def _answers(evidence: Evidence, key: str, clients: list[Told]) -> Iterator[tuple[str, str]]:
    finals = evidence.finals.get(key, set())
    if not finals:
        yield LOST, "no final answer on `responses`"
    if len(finals) > 1:
        yield CONTRADICTED, f"{len(finals)} different final answers on `responses`"
    official = _said(finals)
    for told in clients:
        if told.said is None:
            yield LOST, f"a client ({told.ask.door}) went without: {[trouble.what for trouble in told.troubles[-3:]]}"
        elif told.said not in official:
            yield CONTRADICTED, f"a client ({told.ask.door}) was told {told.said}, the log says {official}"


def _bill(evidence: Evidence, key: str) -> Iterator[tuple[str, str]]:
    billed, rows = _billed(evidence, key), evidence.rows.get(key, [])
    if not billed:
        yield LOST, "no usage event"
    if len(billed) > 1:
        yield DOUBLED, f"{len(billed)} usage events: claims {[event.claim for event in billed]}"
    if key in evidence.changed:
        yield CONTRADICTED, "one usage event's id with two contents"
    known = {event.event_id: _row(event) for event in evidence.events.get(key, {}).values()}
    for row in rows:
        if row != known.get(row.event_id):
            yield CONTRADICTED, f"the ledger has {row}, Kafka {known.get(row.event_id)}"
    ids = [row.event_id for row in rows]
    if len(ids) > len(set(ids)):
        yield DOUBLED, "an event is in the ledger twice"
    if missing := known.keys() - set(ids):
        yield LOST, f"{len(missing)} usage events are not in the ledger"
    official = _said(evidence.finals.get(key, set()))
    for event in billed:
        if (event.prompt_tokens, event.completion_tokens) not in {said[3:] for said in official}:
            yield CONTRADICTED, f"billed {event.completion_tokens} tokens, answered {official}"


def _waste(evidence: Evidence, key: str) -> Iterator[tuple[str, str]]:
    """Whatever ran beside the run that answered is counted, and costs nothing."""
    events = evidence.events.get(key, {}).values()
    wasted = [event for event in events if event.kind is UsageKind.WASTE]
    if any(event.cost_nano for event in wasted):
        yield DOUBLED, "waste was billed"
    ran = {run.run for run in evidence.runs.get(key, [])}
    if uncounted := ran - {event.run for event in events}:
        yield UNCOUNTED, f"runs without usage or waste: {uncounted}"


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
