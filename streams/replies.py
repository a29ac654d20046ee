"""Frames to those who ask and wait."""

from dataclasses import dataclass

import orjson

from contracts.control import ControlType
from contracts.envelope import ReplyTo
from contracts.errors import InvalidRequest, MillraceError
from contracts.frames import Frame, FrameKind
from contracts.headers import RawHeaders
from contracts.kafka import header
from contracts.keys import RequestKey
from contracts.topics import Topics
from streams.entry import Answer, Entry
from streams.records import Output, Record


@dataclass(frozen=True, slots=True)
class Replies:
    """An address is `topic/partition`, a topic, or empty for `responses` by key."""

    topics: Topics

    def address_of(self, record: Record) -> str:
        """Raises InvalidRequest when the record names a topic that isn't for replies."""
        text = header(record.headers, "reply-to")
        return str(self.topics.check_reply_to(text.decode("utf-8", "replace"))) if text else ""

    def refuse(self, record: Record, error: MillraceError, *, retry_after_ms: int | None = None) -> Output:
        """Tells the asker alone why its record does nothing."""
        try:
            address = self.address_of(record)
        except InvalidRequest:
            address = ""
        frame = Frame(
            kind=FrameKind.ERROR, in_reply_to=asker(record), status=error.status, retry_after_ms=retry_after_ms
        )
        return self._send(address, record.key, error.body(), frame.to_headers())

    def answer(self, key: bytes, entry: Entry, addresses: list[str]) -> list[Output]:
        """The end of a request, for everybody who waits."""
        headers = _answer_frame(entry, in_reply_to="", replayed=False).to_headers()
        return [self._send(address, key, entry.body, headers) for address in addresses]

    def replay(self, record: Record, entry: Entry) -> Output:
        """The stored end once more, for one asker."""
        headers = _answer_frame(entry, in_reply_to=asker(record), replayed=True).to_headers()
        return self._send(self.address_of(record), record.key, entry.body, headers)

    def state(self, record: Record, entry: Entry) -> Output:
        """How the request stands, for one asker."""
        answer = entry.answer
        frame = Frame(
            kind=FrameKind.STATE,
            in_reply_to=asker(record),
            outcome=answer.outcome if answer else None,
            claim=str(entry.claim),
            model=answer.model if answer else "",
            run=answer.run if answer else "",
            sequence=answer.sequence if answer else 0,
            position=answer.position if answer else 0,
            deltas_at=entry.reply_to,
            accepted_at=entry.accepted_at,
            fingerprint=entry.fingerprint,
        )
        value = state_json(RequestKey.decode(record.key), entry)
        return self._send(self.address_of(record), record.key, value, frame.to_headers())

    def _send(self, address: str, key: bytes | None, value: bytes, headers: RawHeaders) -> Output:
        if not address:
            return Output(self.topics.responses, key, value, headers)
        topic, partition = ReplyTo.parse(address)
        return Output(topic, key, value, headers, partition)


_UNFINISHED = ("in_progress", "cancelling")


def asker(record: Record) -> str:
    """What answers to this record cite: its ce_id, or else where it stands on `requests`."""
    ce_id = header(record.headers, "ce_id")
    return ce_id.decode("utf-8", "replace") if ce_id else record.position


def state_json(key: RequestKey, entry: Entry) -> bytes:
    """A contracts.frames.RequestState; the stored answer goes in as it is, unparsed."""
    answer = entry.answer
    stored = orjson.Fragment(entry.body) if answer and entry.body else None
    answered = answer is not None and answer.outcome.answered
    return orjson.dumps(
        {
            "id": key.idempotency_key,
            "object": "millrace.request",
            "status": answer.outcome if answer else _UNFINISHED[entry.order is ControlType.ABORT],
            "model": (answer.model if answer else "") or entry.model,
            "created_at": entry.accepted_at,
            "finished_at": answer.finished_at if answer else None,
            "response": stored if answered else None,
            "error": None if answered else stored,
        }
    )


def _answer_frame(entry: Entry, *, in_reply_to: str, replayed: bool) -> Frame:
    answer = entry.answer
    assert answer is not None, "only a finished entry has an answer"
    if replayed:  # what was left of the limits then
        answer = answer._replace(rate_limits="")
    return Frame(
        kind=FrameKind.FINAL if answer.outcome.answered else FrameKind.ERROR,
        in_reply_to=in_reply_to,
        replayed=replayed,
        claim=str(entry.claim),
        **{name: getattr(answer, name) for name in _TOLD},
    )


_TOLD = [name for name in Answer._fields if name in Frame.model_fields]
