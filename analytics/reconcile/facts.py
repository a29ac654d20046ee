"""What each record says, written down at the claim and at the offset that it speaks of. Records in, facts out."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import orjson
from aiokafka import ConsumerRecord, TopicPartition

from analytics.reconcile.claims import ClaimLog
from analytics.reconcile.ledger_rows import digest_of
from analytics.reconcile.report import Sums
from analytics.reconcile.usage_log import UsageLog
from contracts.completion import ESCALATED
from contracts.envelope import RequestType
from contracts.outcomes import Outcome
from contracts.topics import Topics
from contracts.usage import UsageKind, event_id

Event = dict[str, Any]
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)
_REQUEST = RequestType.REQUEST.encode()
_SHADOW = "shadow-of"  # a header of what tells of no claim: that had ended before


class Facts:
    """`claims` by partition of `requests`, `usage` by partition of `usage`; `passed` is where the stage that reads a
    partition has committed to."""

    def __init__(
        self,
        topics: Topics,
        claims: Mapping[int, ClaimLog],
        usage: Mapping[int, UsageLog],
        passed: Mapping[TopicPartition, int],
    ) -> None:
        self.claims, self.usage = claims, usage
        self._passed = passed
        self._handlers = {
            topics.requests: self._request,
            topics.admitted: self._admitted,
            topics.completions: self._ended,
            topics.usage: self._event,
        }
        self._numbers: dict[str, int] = {}
        self.unclaimed: dict[tuple[int, int], bytes] = {}  # place and record key of requests that claimed nothing
        self.undeduped = 0  # requests that dedupe has not come to yet
        self.unreadable = 0  # records of the window on `usage` that are no usage events
        self.sums: dict[str, Sums] = defaultdict(Sums)  # by tenant, of the window's records on `usage`
        self.times: tuple[int, int] | None = None  # least and greatest event time of these, UTC ms

    @property
    def tenants(self) -> dict[int, str]:
        """Names by the numbers that the claims carry."""
        return {number: name for name, number in self._numbers.items()}

    def take(self, record: ConsumerRecord) -> None:
        """A record of any topic; those of `work.…` are told by not being any other. `requests` goes last."""
        self._handlers.get(record.topic, self._work)(record)

    def pending(self) -> bool:
        return any(log.pending() for log in self.claims.values())

    def off(self) -> bool:
        """Whether some claim isn't as it should be, as far as is known."""
        return any(True for log in self.claims.values() for _ in log.faults())

    def _request(self, record: ConsumerRecord) -> None:
        log = self.claims[record.partition]
        if log.was_admitted(record.offset) or dict(record.headers).get("ce_type", _REQUEST) != _REQUEST:
            return
        if self._waits(record):
            self.undeduped += 1
        else:
            self.unclaimed[record.partition, record.offset] = record.key or b""

    def _admitted(self, record: ConsumerRecord) -> None:
        if found := self._claim(dict(record.headers)):
            log, offset, tenant = found
            log.admitted(offset, tenant)
            if self._waits(record):
                log.waiting(offset, tenant)

    def _work(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        if _SHADOW not in headers and self._waits(record) and (found := self._claim(headers)):
            log, offset, tenant = found
            log.waiting(offset, tenant)

    def _ended(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        if _SHADOW in headers:
            return
        outcome = headers.get("outcome", b"").decode("utf-8", "replace")
        if outcome == ESCALATED:
            self._work(record)  # no end: the next model's work comes of it
        elif outcome in _OUTCOMES and (found := self._claim(headers)):
            log, offset, tenant = found
            tokens = (_count(headers, f"{kind}-tokens") for kind in ("prompt", "cached", "completion"))
            log.ended(offset, tenant, outcome, hash((outcome, *tokens)), settled=not self._waits(record))

    def _event(self, record: ConsumerRecord) -> None:
        log = self.usage.get(record.partition)
        counts = log is not None and log.first <= record.offset < log.end
        event = parse_event(record)
        if event is None:
            self.unreadable += counts
            return
        self._bill(event)
        if log and counts:
            log.record(record.offset, digest_of(event))
            self.sums[event["tenant"]].add(sums_of(event))
            first, last = self.times or (event["event_time"], event["event_time"])
            self.times = min(first, event["event_time"]), max(last, event["event_time"])

    def _bill(self, event: Event) -> None:
        place = parse_claim(event["claim"])
        log = self.claims.get(place[0]) if place else None
        if place is None or log is None:
            return
        tenant = self._number(event["tenant"])
        if event["kind"] == UsageKind.WASTE:
            log.wasted(place[1], tenant)
        elif event["kind"] == UsageKind.USAGE:  # whatever else costs or counts ends no claim
            genuine = event["event_id"] == event_id(f"{event['tenant']}:{event['idempotency_key']}", event["claim"])
            log.billed(place[1], tenant, _measure(event), genuine=genuine)

    def _claim(self, headers: Mapping[str, bytes]) -> tuple[ClaimLog, int, int] | None:
        """Its log, its offset there, and its tenant; None when it isn't of the window, or no claim."""
        place = parse_claim(headers.get("claim", b"").decode("utf-8", "replace"))
        log = self.claims.get(place[0]) if place else None
        if place is None or log is None or not log.first <= place[1] < log.end:
            return None
        tenant = headers.get("request-key", b"").decode("utf-8", "replace").partition(":")[0]
        return log, place[1], self._number(tenant)

    def _waits(self, record: ConsumerRecord) -> bool:
        return bool(record.offset >= self._passed.get(TopicPartition(record.topic, record.partition), 0))

    def _number(self, tenant: str) -> int:
        return self._numbers.setdefault(tenant, len(self._numbers) + 1)


def parse_claim(text: str) -> tuple[int, int] | None:
    partition, _, offset = text.partition(".")
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else None


def parse_event(record: ConsumerRecord) -> Event | None:
    """None when it has not what every usage event has."""
    try:
        event = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict):
        return None
    whole = {"kind": UsageKind.USAGE.value} | dict.fromkeys(_COUNTS, 0) | event
    fits = all(isinstance(whole.get(name), str) for name in _TEXTS) and all(type(whole.get(n)) is int for n in _NUMBERS)
    return whole if fits else None


_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_nano")
_NUMBERS = ("event_time", *_COUNTS)
_TEXTS = ("event_id", "kind", "tenant", "idempotency_key", "claim", "outcome")


def sums_of(event: Event) -> Sums:
    return Sums(1, int(event["kind"] == UsageKind.WASTE), *(event[name] for name in _COUNTS))


def _measure(event: Event) -> int:
    tokens = (event[f"{kind}_tokens"] for kind in ("prompt", "cached", "completion"))
    return hash((event["outcome"], *tokens))


def _count(headers: Mapping[str, bytes], name: str) -> int:
    text = headers.get(name, b"0")
    return int(text) if text.isdigit() else 0
