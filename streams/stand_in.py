"""What becomes of those who wait when a stage fails on a record: it rests in dead letters, and nobody waits in vain.

A request that is already claimed is ended the only way there is, by an outcome on `completions` with its claim: the
meter's were never run, so their key is free again; settle's did run, so the failure is their stored answer, and what
they really cost is billed to nobody. Anything else has changed nothing: its asker is told so, and may try again.
"""

from dataclasses import dataclass

from contracts.completion import Completion
from contracts.envelope import Admitted, Claim
from contracts.errors import InvalidRequest, MillraceError
from contracts.headers import header_name
from contracts.kafka import header
from contracts.outcomes import Outcome
from contracts.topics import Topics
from streams.dead_letters import dead_letter
from streams.records import Output, Record
from streams.replies import Replies
from streams.shadow import is_shadow, wants_shadow

_REASON = "It could not be processed: see the log."
_STAND_IN = "stand-in"  # header of an outcome that stands for one that settle could not process
_ENDED = frozenset(header_name(field) for field in Completion.model_fields)


class _Failure(MillraceError):  # noqa: N818
    """500."""


_UNCHANGED = _Failure(
    "Millrace failed on this record, which changed nothing. Try again with the same key; operators find it among the "
    "dead letters."
)
_NEVER_RAN = _Failure(
    "Millrace failed before this request could run. Try again with the same key; operators find it among the dead "
    "letters."
)
_LOST = _Failure(
    "Millrace failed on this request's answer. It is not billed. Ask again with a new key; operators find the answer "
    "among the dead letters."
)


@dataclass(frozen=True, slots=True)
class StandIn:
    """For one stage, by its source topic."""

    topics: Topics
    stage: str
    source: str

    def outputs(self, record: Record) -> list[Output]:
        if self.source == self.topics.admitted:
            return self._end(record, record.headers, Outcome.REJECTED, _NEVER_RAN)
        if self.source == self.topics.completions:
            if is_shadow(record) or wants_shadow(record):
                return [self._letter(record)]  # it ends nothing, and nobody waits
            if header(record.headers, _STAND_IN) is not None:
                return [self._letter(record), self._tell(record, _LOST)]
            kept = [pair for pair in record.headers if pair[0] not in _ENDED]
            return self._end(record, [*kept, (_STAND_IN, b"1")], Outcome.FAILED, _LOST)
        if self.source == self.topics.usage:
            return [self._letter(record)]
        return [self._letter(record), self._tell(record, _UNCHANGED)]

    def _end(
        self, record: Record, headers: list[tuple[str, bytes]], outcome: Outcome, error: MillraceError
    ) -> list[Output]:
        """By an outcome of its claim. Where the record doesn't say whose it is, nobody can be told."""
        try:
            ended = Admitted.from_headers(headers)
            Claim.parse(ended.claim)
        except InvalidRequest:
            return [self._letter(record)]
        completion = Completion(outcome=outcome, status=error.status, finished_at=record.timestamp)
        key = ended.request_key.encode()
        end = Output(self.topics.completions, key, error.body(), [*headers, *completion.to_headers()])
        return [self._letter(record, outcome), end]

    def _tell(self, record: Record, error: MillraceError) -> Output:
        return Replies(self.topics).refuse(record, error)

    def _letter(self, record: Record, outcome: Outcome | None = None) -> Output:
        return dead_letter(self.topics, self.stage, record, _REASON, outcome)
