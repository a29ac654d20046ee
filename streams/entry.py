"""One key's entry in the `requests` table: who claimed it, who waits for it, and how it ended.

On the wire: a version byte, a JSON array of the fields, a newline, the answer's bytes as they came.
"""

import re
from typing import Any, NamedTuple, Self

import orjson

from contracts.control import ControlType
from contracts.envelope import Claim
from contracts.outcomes import Outcome
from streams.records import Output

VERSION = b"\x01"
_MAKE_ROOM = (Outcome.REJECTED, Outcome.FAILED)
MAX_WAITERS = 64
_GONE = 410  # HTTP
MAX_CALLERS = 64  # whose leaving is followed; with more of them the request runs on in any case
_ACCEPTED_AT = re.compile(rb'\x01\["(?:[^"\\]|\\.)*",\d+,\d+,(-?\d+),', re.DOTALL)  # in version 1


class Answer(NamedTuple):
    """A stored outcome: everything that its frames and its usage event are made of again on a replay."""

    outcome: Outcome
    status: int  # HTTP
    settled_by: str  # <partition>.<offset> of the completions record that won
    finished_at: int
    model: str
    run: str
    sequence: int
    position: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    retry_after_ms: int | None
    cost_nano: int
    price_version: str
    rate_limits: str = ""
    fallback_from: str = ""
    fallback_reason: str = ""
    escalated: str = ""  # why the first attempt's answer didn't stand

    @property
    def settled_offset(self) -> int:
        """On `completions`, in the partition that the entry is in."""
        return int(self.settled_by.rpartition(".")[2])


class First(NamedTuple):
    """A first attempt whose answer didn't stand: what its usage event is made of again on a replay."""

    over_by: str  # <partition>.<offset> of the completions record that called for the second attempt
    unbilled_nano: int
    price_version: str


class Entry(NamedTuple):
    """`reply_to` and `waiters` are reply addresses; the empty one means `responses`, by key."""

    fingerprint: str
    claim: Claim
    accepted_at: int
    deduped_at: int
    model: str  # as asked for
    reply_to: str
    waiters: tuple[str, ...] = ()
    answer: Answer | None = None
    body: bytes = b""
    callers: tuple[str, ...] = ()  # who wait, and will say when they leave
    kept: bool = False  # somebody asked who need not wait
    order: ControlType | None = None  # what the workers were told last
    previous: "Entry | None" = None  # turned away or failed before: kept for a replay of what it published
    first: First | None = None  # over, without an answer that stands: the second attempt runs

    @property
    def addresses(self) -> list[str]:
        return [self.reply_to, *self.waiters]

    def claimable(self, at: int, window_ms: int, redrives: str | None) -> bool:
        """Whether a new record may take the key: the window has passed, what ended was turned away unrun, or it failed
        and this record redrives it."""
        outcome = self.answer and self.answer.outcome
        turned_away = outcome is not None and not outcome.stored
        redriven = outcome is Outcome.FAILED and redrives == str(self.claim)
        return turned_away or redriven or at >= self.accepted_at + window_ms

    def forgotten(self, body: bytes) -> Self:
        """Without the answer's text; `body` says so to whoever asks again. Key and bill stay as they are."""
        if self.answer is None or not self.answer.outcome.stored:
            return self
        gone = self.answer._replace(outcome=Outcome.FAILED, status=_GONE)
        return self._replace(answer=gone, body=body, previous=None)

    def with_waiter(self, address: str) -> Self | None:
        """None when too many wait already."""
        if address == self.reply_to or address in self.waiters:
            return self
        return self._replace(waiters=(*self.waiters, address)) if len(self.waiters) < MAX_WAITERS else None

    def with_caller(self, caller: str) -> Self:
        """Somebody who asked for it; an empty name is one who won't say when it leaves."""
        if caller in self.callers:
            return self
        if not caller or len(self.callers) >= MAX_CALLERS:
            return self if self.kept else self._replace(kept=True)
        return self._replace(callers=(*self.callers, caller))

    def settled_by(self, completion: str) -> "Entry | None":
        """This entry, or the one before it, if that completions record ended it."""
        for entry in (self, self.previous):
            if entry and entry.answer and entry.answer.settled_by == completion:
                return entry
        return None

    def escalated_by(self, completion: str) -> "Entry | None":
        """This entry, or the one before it, if that completions record called for its second attempt."""
        for entry in (self, self.previous):
            if entry and entry.first and entry.first.over_by == completion:
                return entry
        return None

    def after(self, before: Self | None) -> Self:
        """Take the key from one that was turned away or failed: its frames and usage may have died in a crash."""
        unbilled = before is not None and before.answer is not None and before.answer.outcome in _MAKE_ROOM
        return self._replace(previous=before._replace(previous=None)) if before and unbilled else self

    def encode(self) -> bytes:
        return b"%b%b\n%b" % (VERSION, orjson.dumps(_head(self)), self.body)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Raises ValueError on a version that this code doesn't know."""
        if value[:1] != VERSION:
            raise ValueError(f"an entry of version {value[:1].hex()}")
        end = value.index(b"\n")
        return cls._of(orjson.loads(value[1:end]), value[end + 1 :])

    @classmethod
    def _of(cls, head: list[Any], body: bytes) -> Self:
        fingerprint, partition, offset, accepted, deduped, model, reply_to, waiters, answer, previous, *newer = head
        callers, kept, order, *newest = newer or ((), True, None)  # entries of before there were callers have none
        first = newest[0] if newest else None  # nor those of before there were cascades
        return cls(
            fingerprint,
            Claim(partition, offset),
            accepted,
            deduped,
            model,
            reply_to,
            tuple(waiters),
            Answer(Outcome(answer[0]), *answer[1:]) if answer else None,
            body,
            tuple(callers),
            kept,
            ControlType(order) if order else None,
            cls._of(previous[0], previous[1].encode("latin-1")) if previous else None,
            First(*first) if first else None,
        )


def accepted_at(value: bytes) -> int:
    """An encoded entry's `accepted_at`, not before 1970, without decoding the rest. Raises ValueError like decode."""
    found = _ACCEPTED_AT.match(value)
    if found is None:
        raise ValueError(f"an entry of version {value[:1].hex()}")
    return max(0, int(found[1]))


def _head(entry: Entry) -> list[Any]:
    previous = entry.previous
    return [
        entry.fingerprint,
        entry.claim.partition,
        entry.claim.offset,
        entry.accepted_at,
        entry.deduped_at,
        entry.model,
        entry.reply_to,
        entry.waiters,
        [*entry.answer] if entry.answer else None,
        [_head(previous), previous.body.decode("latin-1")] if previous else None,
        entry.callers,
        entry.kept,
        entry.order,
        [*entry.first] if entry.first else None,
    ]


class Decision(NamedTuple):
    """The key's entry from now on, and what is published."""

    entry: Entry | None
    outputs: list[Output]
