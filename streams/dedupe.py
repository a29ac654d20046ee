"""Dedupe: one run per key, however often and by whichever way it is asked for.

A record claims its key when nothing live holds it; the claim's place on `requests` is the epoch of the run. A record
that comes again at the claim's own offset is a replay after a crash and goes on again, since going on twice is
harmless and never going on is a lost request. Anything else on a held key is a duplicate, and joins or is answered.
"""

from typing import Literal

from contracts.catalogue import Catalogue
from contracts.duplicate import Duplicate
from contracts.envelope import Claim, Envelope, RequestType
from contracts.errors import IdempotencyKeyReused, InvalidRequest, RateLimited, UnknownRequest, error_body
from contracts.kafka import header
from contracts.keys import RequestKey
from contracts.tokenizer import Tokenizers
from contracts.topics import REQUEST_TABLE, Topics
from contracts.usage import event_id
from streams.cancel import Cancel
from streams.dead_letters import dead_letter
from streams.entry import MAX_WAITERS, Decision, Entry
from streams.expiry import Expiry
from streams.intake import Intake, Request
from streams.metrics import decided
from streams.partition import partition_of
from streams.records import Output, Record
from streams.replies import Replies
from streams.stage import House, Keyed, Stage
from streams.sweep import Sweep

STAGE = "dedupe"
_RETRY_CROWD_MS = 1000


def dedupe(house: House) -> Stage:
    settings = house.settings
    window_ms = settings.idempotency_window_hours * 3_600_000
    partitions = settings.request_partitions
    decide = Dedupe(house.topics, house.catalogue, house.tokenizers, partitions, window_ms).decide
    sweep = Sweep(Expiry.of(settings), house.topics.requests, house.topics.completions)
    return Stage(
        STAGE, house.topics.requests, REQUEST_TABLE, partitions, lambda state: Keyed(state, decide), sweep=sweep
    )


class Dedupe:
    """`partitions` is how many `requests` has."""

    def __init__(
        self, topics: Topics, catalogue: Catalogue, tokenizers: Tokenizers, partitions: int, window_ms: int
    ) -> None:
        self._topics = topics
        self._partitions = partitions
        self._window_ms = window_ms
        self._intake = Intake(catalogue, tokenizers)
        self._replies = Replies(topics)
        self._cancel = Cancel(topics, self._replies)

    def decide(self, entry: Entry | None, record: Record) -> Decision:
        try:
            key = RequestKey.decode(record.key)
        except InvalidRequest as error:
            return Decision(entry, [dead_letter(self._topics, STAGE, record, error.message)])
        home = partition_of(key.encode(), self._partitions)
        if home != record.partition:
            return Decision(entry, self._move(record, home))
        try:
            return self._serve(entry, record, key)
        except InvalidRequest as error:
            refusal = self._replies.refuse(record, error)
            return Decision(entry, [dead_letter(self._topics, STAGE, record, error.message), refusal])

    def _move(self, record: Record, home: int) -> list[Output]:
        """A producer with another partitioner: to the partition that owns the key, once."""
        if header(record.headers, "moved") is not None:
            return [dead_letter(self._topics, STAGE, record, f"Moved already, and {home} is its partition.")]
        return [Output(self._topics.requests, record.key, record.value, [*record.headers, ("moved", b"1")], home)]

    def _serve(self, entry: Entry | None, record: Record, key: RequestKey) -> Decision:
        """Raises InvalidRequest on a record that isn't what it should be."""
        envelope = self._intake.envelope(record, key)
        address = self._replies.address_of(record)
        held = entry if entry and record.timestamp < entry.accepted_at + self._window_ms else None
        if envelope.ce_type is RequestType.REQUEST:
            request = self._intake.request(record, envelope)
            return self._ask(entry, record, request, address)
        if envelope.ce_type in (RequestType.LEAVE, RequestType.FORGET):
            return self._obey(entry, held, record, envelope)
        if held is None:
            unknown = UnknownRequest(f"There is no request {key.idempotency_key!r}, or its window has passed.")
            return Decision(entry, [self._replies.refuse(record, unknown)])
        if envelope.ce_type is RequestType.CANCEL:
            return self._cancel.cancel(held, record, address)
        if envelope.ce_type is RequestType.ATTACH and held.answer is None:
            return self._join(held, record, address, [self._replies.state(record, held)])
        return Decision(entry, [self._replies.state(record, held)])

    def _obey(self, entry: Entry | None, held: Entry | None, record: Record, envelope: Envelope) -> Decision:
        """What nobody is answered."""
        if envelope.ce_type is RequestType.FORGET:
            return Decision(entry and entry.forgotten(_FORGOTTEN), [])
        return self._cancel.leave(held, record, envelope) if held else Decision(entry, [])

    def _ask(self, entry: Entry | None, record: Record, request: Request, address: str) -> Decision:
        if entry and entry.claim == (record.partition, record.offset):
            decided("again")
            gone_on = entry.answer or entry.first
            return Decision(entry, [] if gone_on else [self._forward(entry, record, request)])
        if entry is None or self._may_claim(entry, record):
            decided("new")
            claimed = _claim(entry, record, request, address)
            return Decision(claimed, [self._forward(claimed, record, request)])
        if entry.fingerprint != request.digest.fingerprint:
            decided("reused")
            return Decision(entry, [self._replies.refuse(record, _REUSED)])
        if entry.answer:
            decided("replayed")
            return Decision(entry, [self._replies.replay(record, entry), *self._spared(entry, record, "replayed")])
        decided("attached" if entry.with_waiter(address) else "crowded")
        return self._join(entry, record, address, self._spared(entry, record, "joined"))

    def _spared(self, entry: Entry, record: Record, how: Literal["joined", "replayed"]) -> list[Output]:
        """Counted on a topic of its own, since what comes on `usage` settles reservations. What stands before the claim
        had a claim of its own."""
        if record.offset < entry.claim.offset:
            return []
        key = RequestKey.decode(record.key)
        duplicate = Duplicate(
            place=record.position,
            at=record.timestamp,
            tenant=key.tenant,
            feature=(header(record.headers, "feature") or b"").decode("utf-8", "replace"),
            about=event_id(str(key.encode(), "ascii"), str(entry.claim)),
            how=how,
        )
        return [Output(self._topics.duplicates, key.tenant.encode(), duplicate.model_dump_json().encode(), [])]

    def _may_claim(self, entry: Entry, record: Record) -> bool:
        """What stands before the claim was decided before it, and comes again after a crash: it takes no key back."""
        redrives = (header(record.headers, "redrive") or b"").decode()
        return record.offset > entry.claim.offset and entry.claimable(record.timestamp, self._window_ms, redrives)

    def _join(self, entry: Entry, record: Record, address: str, outputs: list[Output]) -> Decision:
        joined = entry.with_waiter(address)
        if joined is None:
            return Decision(entry, [self._replies.refuse(record, _CROWDED, retry_after_ms=_RETRY_CROWD_MS)])
        return Decision(joined.with_caller(_caller(record)), outputs)

    def _forward(self, entry: Entry, record: Record, request: Request) -> Output:
        key = record.key or b""
        headers = [
            *request.headers,
            ("request-key", key),
            ("claim", str(entry.claim).encode()),
            ("accepted-at", str(entry.accepted_at).encode()),
            ("deduped-at", str(entry.deduped_at).encode()),
        ]
        return Output(self._topics.admitted, key.partition(b":")[0], record.value, headers)


_FORGOTTEN = error_body("The answer was removed, as its tenant wished.", "invalid_request_error", "answer_forgotten")
_REUSED = IdempotencyKeyReused(
    "This idempotency key was used with another request body; use a new key.", param="Idempotency-Key"
)
_CROWDED = RateLimited(f"More than {MAX_WAITERS} callers wait for this request already; fetch its state instead.")


def _claim(before: Entry | None, record: Record, request: Request, address: str) -> Entry:
    claimed = Entry(
        fingerprint=request.digest.fingerprint,
        claim=Claim(record.partition, record.offset),
        accepted_at=record.timestamp,
        deduped_at=record.seen_at,
        model=request.digest.requested_model,
        reply_to=address,
    )
    return claimed.with_caller(_caller(record)).after(before)


def _caller(record: Record) -> str:
    """Who waits and says when it leaves; empty for one who doesn't."""
    return (header(record.headers, "caller") or b"").decode()
