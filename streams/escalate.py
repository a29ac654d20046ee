"""Escalate: an attempt whose answer doesn't stand makes room for the next model's, within the same claim.

The owner of the key decides, in the log's order: what a claim's first attempt says after it has escalated is waste,
however often that attempt ran. The record that escalates is the request's body and all of its headers, so that a crash
leaves either nothing of the second attempt or all of it.
"""

from contracts.cascade import read_cascade
from contracts.completion import Escalation, FirstAnswer
from contracts.headers import header_name
from contracts.keys import RequestKey
from contracts.prices import PriceTable
from contracts.topics import Topics
from contracts.usage import UsageEvent
from streams.ended import Escalated, escalated_of, list_price
from streams.entry import First
from streams.records import Output, Record

_LEFT_BEHIND = frozenset(header_name(field) for field in Escalation.model_fields) | {
    "cascade",
    "shadow",
    "model",
    "attempt",
}


class Escalate:
    def __init__(self, topics: Topics, prices: PriceTable) -> None:
        self._topics = topics
        self._prices = prices

    def work(self, record: Record, ended: Escalated) -> Output:
        """The second attempt. Raises InvalidRequest."""
        model = read_cascade(ended.cascade).model
        headers = [
            *(pair for pair in record.headers if pair[0] not in _LEFT_BEHIND),
            ("model", model.encode()),
            ("attempt", str(ended.attempt + 1).encode()),
            ("escalated", ended.escalated.encode()),
        ]
        if ended.first_answer:
            headers += [("first", _first(ended)), ("first-answer", ended.first_answer.encode())]
        return Output(self._topics.work(model, ended.lane), record.key, record.value, headers)

    def first(self, record: Record, ended: Escalated) -> First:
        """It isn't billed; what it would have cost is said."""
        return First(record.position, *list_price(self._prices, ended, record.timestamp))

    def usage(self, record: Record, key: RequestKey, ended: Escalated, first: First) -> UsageEvent:
        return escalated_of(record, key, ended, first.unbilled_nano, first.price_version)


def _first(ended: Escalated) -> bytes:
    """Goes with the request, so that whoever fails can give the first answer instead."""
    said = ended.model_dump(include=set(FirstAnswer.model_fields))
    return FirstAnswer(**said).model_dump_json().encode()
