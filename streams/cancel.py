"""Cancel: a request that its caller gave up, by saying so or by hanging up.

The owner of the key decides, in the log's order, and orders the workers to obey; what ends the request is still its
first outcome. So a cancellation that comes too late changes nothing, and one that was decided survives any crash: an
order that may have been lost is given again, and twice is harmless.
"""

from contracts.control import Control, ControlType
from contracts.envelope import Envelope
from contracts.errors import RequestFinished
from contracts.outcomes import Outcome
from contracts.topics import Topics
from streams.entry import Decision, Entry
from streams.records import Output, Record
from streams.replies import Replies

_ORDERS = {"cancel": ControlType.ABORT, "drain": ControlType.DRAIN}


class Cancel:
    def __init__(self, topics: Topics, replies: Replies) -> None:
        self._topics = topics
        self._replies = replies

    def cancel(self, entry: Entry, record: Record, address: str) -> Decision:
        """The asker is told how it stands and, while it isn't over, waits for the end like a caller who joined."""
        if entry.answer is None:
            ordered = entry._replace(order=ControlType.ABORT)
            outputs = [self._order(record, ordered), self._replies.state(record, ordered)]
            return Decision(ordered.with_waiter(address) or ordered, outputs)
        if entry.answer.outcome is Outcome.CANCELLED:
            return Decision(entry, [self._replies.state(record, entry)])
        late = RequestFinished(f"The request has ended already: it has {entry.answer.outcome.replace('_', ' ')}.")
        return Decision(entry, [self._replies.refuse(record, late)])

    def leave(self, entry: Entry, record: Record, envelope: Envelope) -> Decision:
        """The last caller to hang up decides. Those who will come back, and who never said that they'd tell when they
        leave, keep the request running."""
        if entry.answer is not None:
            return Decision(entry, [])
        if envelope.caller not in entry.callers:  # it has left already: the order may have been lost in a crash
            return Decision(entry, [self._order(record, entry)] if entry.order else [])
        left = entry._replace(callers=tuple(caller for caller in entry.callers if caller != envelope.caller))
        order = _ORDERS.get(envelope.on_disconnect or "")
        if order is None or left.kept or left.callers or left.order is ControlType.ABORT:
            return Decision(left, [self._order(record, left)] if left.order else [])  # a caller of that name came back
        ordered = left._replace(order=order)
        return Decision(ordered, [self._order(record, ordered)])

    def _order(self, record: Record, entry: Entry) -> Output:
        assert entry.order is not None, "what the entry says is ordered"
        order = Control(ce_id=record.position, ce_type=entry.order, claim=str(entry.claim))
        return Output(self._topics.control, record.key, b"", order.to_headers())
