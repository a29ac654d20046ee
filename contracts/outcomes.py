"""How a request can end: a closed set, each with its billing rule."""

from enum import StrEnum


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"  # billed
    FAILED = "failed"  # the engine answered with an error; not billed
    REJECTED = "rejected"  # a limit, an overload, or found unfit; never ran, and the key stays free
    EXPIRED = "expired"  # its deadline passed before the engine; never ran
    TIMED_OUT = "timed_out"  # ran out of time while running; billed for the tokens produced
    CANCELLED = "cancelled"  # the caller gave up; billed for the tokens produced

    @property
    def billed(self) -> bool:
        return self in _BILLED

    @property
    def answered(self) -> bool:
        """Whether its body is an answer, if only as far as it got, and not an error."""
        return self in _ANSWERED

    @property
    def stored(self) -> bool:
        """Whether the key replays this outcome. What never ran is not stored: the same key may run again."""
        return self is not Outcome.REJECTED


_BILLED = frozenset({Outcome.SUCCEEDED, Outcome.TIMED_OUT, Outcome.CANCELLED})
_ANSWERED = frozenset({Outcome.SUCCEEDED, Outcome.CANCELLED})
