"""Of a cascade: the first answer, which didn't stand, is better than none where the second model gives none.

It travels with the second attempt's work. Whoever runs that in vain publishes the first answer as the request's
outcome, in the place of its own failure: one record, which settle takes and bills like any other.
"""

import structlog
from pydantic import ValidationError

from contracts.completion import MOST_CARRIED, Completion, Escalation, FirstAnswer, FirstStands
from contracts.envelope import Work
from contracts.outcomes import Outcome
from inference.engine import CANCELLED, Finish

log = structlog.get_logger()


def carried(finish: Finish | None, body: bytes) -> str:
    """What goes on with an escalation; empty where the answer was given up halfway, or is too large for a header."""
    whole = finish is not None and finish.reason != CANCELLED and len(body) <= MOST_CARRIED
    return body.decode() if whole else ""


def or_first(
    work: Work, ended: Completion | Escalation, body: bytes, *, again: bool
) -> tuple[Completion | Escalation, bytes]:
    """What is published of a run: itself, or the first answer where this one failed. Not where a stream's client may
    have some of the second answer: by a run before this one, `again`, too."""
    if isinstance(ended, Escalation) or ended.outcome.answered or not work.first_answer:
        return ended, body
    if work.stream and (again or ended.sequence):
        return ended, body
    try:
        first = FirstAnswer.model_validate_json(work.first)
    except ValidationError:
        return ended, body
    log.warning("The first answer stands, as the second model failed.", outcome=ended.outcome.value)
    said = ended.model_dump() | first.model_dump()
    said |= {"outcome": Outcome.SUCCEEDED, "status": 200, "retry_after_ms": None, "fallback_from": work.model}
    return FirstStands(**said), work.first_answer.encode()
