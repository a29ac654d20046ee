"""Settle: the first outcome of a claim is the answer, for everybody and for the bill; a later one is waste.

Everything that is published comes from the completions record, the price table and the entry, so a record that comes
again after a crash publishes the same bytes again.
"""

from functools import partial

from contracts.completion import ESCALATED
from contracts.envelope import Claim
from contracts.errors import InvalidRequest, error_body
from contracts.kafka import header
from contracts.keys import RequestKey
from contracts.outcomes import Outcome
from contracts.prices import PriceTable
from contracts.topics import REQUEST_TABLE, Topics
from contracts.usage import UsageEvent
from streams.dead_letters import dead_letter
from streams.ended import Ended, Escalated, list_price, usage_of, waste_of
from streams.entry import Answer, Decision, Entry
from streams.escalate import Escalate
from streams.expiry import Floor
from streams.records import Output, Record
from streams.replies import Replies
from streams.shadow import Shadows, is_shadow, wants_shadow
from streams.stage import House, Keyed, Stage

STAGE = "settle"
_ESCALATED = ESCALATED.encode()


def settle(house: House) -> Stage:
    settings = house.settings
    window_ms, wait_ms = settings.idempotency_window_hours * 3_600_000, settings.shadow_wait_seconds * 1000
    decide = Settle(house.topics, house.prices, window_ms, wait_ms).decide
    partitions = settings.request_partitions
    return Stage(
        STAGE,
        house.topics.completions,
        REQUEST_TABLE,
        partitions,
        lambda state: Keyed(state, partial(decide, Floor(state))),
    )


class Settle:
    def __init__(self, topics: Topics, prices: PriceTable, window_ms: int, shadow_wait_ms: int = 0) -> None:
        self._topics = topics
        self._prices = prices
        self._window_ms = window_ms
        self._replies = Replies(topics)
        self._escalate = Escalate(topics, prices)
        self._shadows = Shadows(topics, prices, shadow_wait_ms)

    def decide(self, floor: Floor, entry: Entry | None, record: Record) -> Decision:
        try:
            key = RequestKey.decode(record.key)
            if is_shadow(record) or wants_shadow(record):
                return Decision(entry, self._beside(entry, record, key))
            if header(record.headers, "outcome") == _ESCALATED:
                return self._second_attempt(floor, entry, record, key)
            ended = Ended.from_headers(record.headers)
            claim = Claim.parse(ended.claim)
        except InvalidRequest as error:
            return Decision(entry, [dead_letter(self._topics, STAGE, record, error.message)])
        if entry and (again := entry.settled_by(record.position)):
            return Decision(entry, self._publish(again, record, key, ended))
        if self._is_first(floor, entry, claim, ended):
            settled = self._settle(entry, record, ended, claim)
            return Decision(settled, self._publish(settled, record, key, ended))
        return Decision(entry, self._waste(record, key, ended))

    def _second_attempt(self, floor: Floor, entry: Entry | None, record: Record, key: RequestKey) -> Decision:
        """Raises InvalidRequest."""
        ended = Escalated.from_headers(record.headers)
        claim, work = Claim.parse(ended.claim), self._escalate.work(record, ended)
        if entry and (again := entry.escalated_by(record.position)) and again.first:
            usage = self._escalate.usage(record, key, ended, again.first)
            return Decision(entry, [self._usage(usage)] if again.answer else [self._usage(usage), work])
        if self._is_first(floor, entry, claim, ended):
            first = self._escalate.first(record, ended)
            held = self._held(entry, record, ended, claim)._replace(first=first)
            return Decision(held, [self._usage(self._escalate.usage(record, key, ended, first)), work])
        return Decision(entry, self._waste(record, key, ended))

    def _beside(self, entry: Entry | None, record: Record, key: RequestKey) -> list[Output]:
        """What changes nothing. Raises InvalidRequest."""
        if not is_shadow(record):
            return self._shadows.work(entry, record)
        usage = self._shadows.usage(record, key)
        return [self._usage(usage)] if usage else []

    def _is_first(self, floor: Floor, entry: Entry | None, claim: Claim, ended: Ended | Escalated) -> bool:
        """Without an entry, it was removed after its window, or its claim's news were lost in a crash and will come
        again. A claim newer than the entry's was made before a crash, and the entry lost its news. It may end what
        could be claimed; but not what runs: those who wait for that would never be told."""
        if entry is None:
            return not floor.reaches(claim)
        if entry.answer is None:
            return claim == entry.claim and (ended.attempt > 1 or not entry.first)
        return claim > entry.claim and entry.claimable(ended.accepted_at, self._window_ms, ended.redrive)

    def _settle(self, entry: Entry | None, record: Record, ended: Ended, claim: Claim) -> Entry:
        cost, price_version = self._bill(record, ended)
        answer = Answer(
            outcome=ended.outcome,
            status=ended.status,
            settled_by=record.position,
            finished_at=ended.finished_at,
            model=ended.model,
            run=ended.run,
            sequence=ended.sequence,
            position=ended.position,
            prompt_tokens=ended.prompt_tokens,
            cached_tokens=ended.cached_tokens,
            completion_tokens=ended.completion_tokens,
            retry_after_ms=ended.retry_after_ms,
            cost_nano=cost,
            price_version=price_version,
            rate_limits=ended.rate_limits,
            fallback_from=ended.fallback_from,
            fallback_reason=ended.fallback_reason,
            escalated=ended.escalated,
        )
        held = self._held(entry, record, ended, claim)
        return held._replace(answer=answer, callers=(), body=record.value or _explain(ended))

    def _held(self, entry: Entry | None, record: Record, ended: Ended | Escalated, claim: Claim) -> Entry:
        return entry if entry and entry.claim == claim else self._entry_of(record, ended, claim).after(entry)

    def _entry_of(self, record: Record, ended: Ended | Escalated, claim: Claim) -> Entry:
        """The claim as the completion's own headers tell it: the entry may be gone, or older."""
        try:
            reply_to = self._replies.address_of(record)
        except InvalidRequest:
            reply_to = ""
        return Entry(
            ended.fingerprint, claim, ended.accepted_at, ended.deduped_at, ended.requested_model, reply_to=reply_to
        )

    def _bill(self, record: Record, ended: Ended) -> tuple[int, str]:
        """Nano-dollars, and the price table's version; none when the model has no price."""
        cost, version = list_price(self._prices, ended, record.timestamp)
        return cost if ended.outcome.billed else 0, version

    def _publish(self, entry: Entry, record: Record, key: RequestKey, ended: Ended) -> list[Output]:
        answer = entry.answer
        assert answer is not None, "only a settled entry is published"
        usage = usage_of(record, key, ended, answer.cost_nano, answer.price_version)
        frames = self._replies.answer(key.encode(), entry, entry.addresses)
        return [*frames, self._usage(usage)]

    def _waste(self, record: Record, key: RequestKey, ended: Ended | Escalated) -> list[Output]:
        """A run that came too late is counted, unbilled; that also releases what it has reserved. What the meter turned
        away never ran and holds nothing."""
        if ended.outcome is Outcome.REJECTED and not ended.reserved_tokens:
            return []
        return [self._usage(waste_of(record, key, ended))]

    def _usage(self, usage: UsageEvent) -> Output:
        return Output(self._topics.usage, usage.tenant.encode(), usage.model_dump_json().encode(), [])


def _explain(ended: Ended) -> bytes:
    """An outcome without a body of its own."""
    return error_body(f"The request has {ended.outcome.replace('_', ' ')}.", "server_error", ended.outcome.value)
