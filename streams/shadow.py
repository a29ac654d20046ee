"""Shadow runs: another model's work on a request that has been answered, which changes nothing about it.

Its record has the body and nothing by which anybody could be answered, charged or cancelled: no reply address, no
reservation, no cascade. What comes of it is a row of the ledger, made from the record alone; no entry is read for that
and none is changed. So a shadow run may be lost, repeated or late without anybody noticing.
"""

from contracts.completion import SHADOW_WANTED, SHADOWED, ShadowWanted
from contracts.envelope import Claim, Envelope
from contracts.headers import header_name
from contracts.kafka import header
from contracts.keys import RequestKey
from contracts.outcomes import Outcome
from contracts.prices import PriceTable
from contracts.topics import Topics
from contracts.usage import UsageEvent
from streams.ended import Compared, Wanted, list_price, shadow_of
from streams.entry import Entry
from streams.records import Output, Record

_KEPT = ("tenant", "user", "feature", "tags", "api_key_id", "traceparent")  # whom the row is about, and its trace
_OF_THE_RUN = (set(Envelope.model_fields) - set(_KEPT)) | set(ShadowWanted.model_fields)
_OF_THE_ROUTE = {"model", "reserved_tokens", "rate_limits", "turn", "fallback_from", "fallback_reason"}
_OF_THE_ANSWER = {"stream", "include_usage", "estimated_start", "cascade", "attempt", "escalated", "shadow"}
_LEFT_BEHIND = frozenset(map(header_name, _OF_THE_RUN | _OF_THE_ROUTE | _OF_THE_ANSWER))
_LAST = 100  # priority, of -100 to 100


def is_shadow(record: Record) -> bool:
    """Whether it is of a shadow run, whatever it says of itself."""
    return header(record.headers, "shadow-of") is not None


def wants_shadow(record: Record) -> bool:
    return header(record.headers, "outcome") == SHADOW_WANTED.encode()


class Shadows:
    def __init__(self, topics: Topics, prices: PriceTable, wait_ms: int) -> None:
        self._topics = topics
        self._prices = prices
        self._wait_ms = wait_ms

    def work(self, entry: Entry | None, record: Record) -> list[Output]:
        """None unless it was this run that answered, and that is still so: another run's answer is nothing to compare
        with, and what was forgotten goes nowhere. Raises InvalidRequest."""
        wanted = Wanted.from_headers(record.headers)
        if not (entry and entry.claim == Claim.parse(wanted.claim) and _answered_by(entry, wanted.run)):
            return []
        headers = [
            *(pair for pair in record.headers if pair[0] not in _LEFT_BEHIND),
            ("model", wanted.shadow.encode()),
            ("lane", b"batch"),
            ("priority", str(_LAST).encode()),
            ("reserved-tokens", b"0"),
            ("deadline", str(record.timestamp + self._wait_ms).encode()),
            ("shadow-of", wanted.model.encode()),
            ("answered", wanted.answer_digest.encode()),
        ]
        return [Output(self._topics.work(wanted.shadow, "batch"), record.key, record.value, headers)]

    def usage(self, record: Record, key: RequestKey) -> UsageEvent | None:
        """None for what isn't told as a shadow run is: a worker ran it that knows none. Raises InvalidRequest."""
        if header(record.headers, "outcome") != SHADOWED.encode():
            return None
        ended = Compared.from_headers(record.headers)
        return shadow_of(record, key, ended, *list_price(self._prices, ended, record.timestamp))


def _answered_by(entry: Entry, run: str) -> bool:
    answer = entry.answer
    return answer is not None and answer.outcome is Outcome.SUCCEEDED and answer.run == run
