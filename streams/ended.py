"""What a run says when it is over, and the usage event that tells of it."""

from typing import Any, Literal

from contracts.completion import Completion, Escalation, Shadowed, ShadowWanted
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest
from contracts.headers import HeaderModel
from contracts.keys import RequestKey
from contracts.outcomes import Outcome
from contracts.prices import PriceTable
from contracts.tags import parse_tags
from contracts.usage import UsageEvent, UsageKind, event_id
from streams.records import Record

Agreement = Literal["", "same", "other"]


class _Routed(HeaderModel):
    """What meter and route add is missing when they turned the request away."""

    model: str = ""
    route: str = ""
    complexity: float = 0.0
    router_version: str = ""
    reserved_tokens: int = 0
    admitted_at: int | None = None
    rate_limits: str = ""
    fallback_from: str = ""
    fallback_reason: str = ""
    cascade: str = ""
    attempt: int = 1
    shadow_of: str = ""
    answered: str = ""


class Ended(Admitted, _Routed, Completion):
    """Headers on `completions` of a run that may be the request's end."""

    escalated: str = ""


class Escalated(Admitted, _Routed, Escalation):
    """Of an attempt whose answer doesn't stand."""


class Wanted(Admitted, _Routed, ShadowWanted):
    """Of a run that answered, and that another model's is to follow."""

    shadow: str


class Compared(Admitted, _Routed, Shadowed):
    """Of a shadow run."""

    @property
    def agreement(self) -> Agreement:
        """Nothing can be said without both answers."""
        if self.shadow_outcome is not Outcome.SUCCEEDED or not (self.answered and self.answer_digest):
            return ""
        return "same" if self.answered == self.answer_digest else "other"


def list_price(prices: PriceTable, ended: Ended | Escalated | Compared, at: int) -> tuple[int, str]:
    """What its tokens cost at `at` (UTC ms): nano-dollars, and the price table's version; none without a price."""
    price = prices.find(ended.model, ended.model_version, at)
    if price is None:
        return 0, ""
    return price.cost(ended.prompt_tokens, ended.cached_tokens, ended.completion_tokens), prices.version


def usage_of(record: Record, key: RequestKey, ended: Ended, cost_nano: int, price_version: str) -> UsageEvent:
    """Of the run that answered."""
    said = {"kind": UsageKind.USAGE, "outcome": ended.outcome}
    return _event(record, key, ended, "", **said, cost_nano=cost_nano, price_version=price_version)


def waste_of(record: Record, key: RequestKey, ended: Ended | Escalated) -> UsageEvent:
    """Of one that came too late."""
    outcome = ended.outcome if isinstance(ended, Ended) else Outcome.SUCCEEDED
    return _event(record, key, ended, record.position, kind=UsageKind.WASTE, outcome=outcome)


def escalated_of(
    record: Record, key: RequestKey, ended: Escalated, unbilled_nano: int, price_version: str
) -> UsageEvent:
    """Of the attempt that another one followed: it has run to an answer, though not to the request's."""
    said = {"kind": UsageKind.ESCALATED, "outcome": Outcome.SUCCEEDED}
    named = f"attempt {ended.attempt}"
    return _event(record, key, ended, named, **said, unbilled_nano=unbilled_nano, price_version=price_version)


def shadow_of(record: Record, key: RequestKey, ended: Compared, unbilled_nano: int, price_version: str) -> UsageEvent:
    """Of a run that nobody asked for: one for each record that tells of one, since each has used the engine."""
    said = {"kind": UsageKind.SHADOW, "outcome": ended.shadow_outcome, "agreement": ended.agreement}
    named = f"shadow {record.position}"
    return _event(record, key, ended, named, **said, unbilled_nano=unbilled_nano, price_version=price_version)


def _event(record: Record, key: RequestKey, ended: Ended | Escalated | Compared, named: str, **said: Any) -> UsageEvent:
    same = {name: getattr(ended, name) for name in _SAME if name in type(ended).model_fields}
    return UsageEvent(
        **same,
        **said,
        event_id=event_id(str(key.encode(), "ascii"), ended.claim, named),
        event_time=record.timestamp,
        tenant=key.tenant,
        idempotency_key=key.idempotency_key,
        tags=_tags(ended.tags),
        streamed=ended.stream,
        trace_id=_trace_id(ended.traceparent),
    )


_OWN = ("tenant", "tags", "outcome")
_SAME = [name for name in UsageEvent.model_fields if name in Ended.model_fields and name not in _OWN]


def _tags(text: str) -> dict[str, str]:
    try:
        return parse_tags(text)
    except InvalidRequest:  # dedupe lets none through; a worker's slip mustn't cost the answer
        return {}


def _trace_id(traceparent: str) -> str:
    """W3C: version-trace_id-parent_id-flags."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= 4 else ""
