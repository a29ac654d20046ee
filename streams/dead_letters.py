"""Records that can't be understood are kept for operators, and their partition goes on."""

from contracts.dead_letter import DeadLetter
from contracts.outcomes import Outcome
from contracts.topics import Topics
from streams.records import Output, Record

_MAX_REASON = 1000  # characters, as the contract has it


def dead_letter(topics: Topics, stage: str, record: Record, reason: str, outcome: Outcome | None = None) -> Output:
    """Key, value and headers as they came, and the reason beside them. `outcome` is how its client is answered."""
    letter = DeadLetter(
        dead_letter_reason=reason[:_MAX_REASON],
        dead_letter_stage=stage,
        dead_letter_topic=record.topic,
        dead_letter_partition=record.partition,
        dead_letter_offset=record.offset,
        dead_letter_outcome=outcome or "",
    )
    return Output(topics.dead_letters, record.key, record.value, record.headers + letter.to_headers())
