"""How many requests an engine was asked to run, and how many of them it failed: by that callers are sent elsewhere."""

from contracts.completion import Completion, Escalation
from contracts.outcomes import Outcome
from contracts.workers import Outcomes

_NOT_ITS_DOING = (Outcome.CANCELLED, Outcome.EXPIRED)  # tells nothing of the engine


class OutcomeCount:
    def __init__(self) -> None:
        self._ended = 0
        self._failed = 0

    def count(self, completion: Completion | Escalation) -> None:
        """An overload fails too: who asks again elsewhere is served."""
        if completion.outcome not in _NOT_ITS_DOING:
            self._ended += 1
            self._failed += completion.status >= 500

    @property
    def told(self) -> Outcomes:
        return Outcomes(ended=self._ended, failed=self._failed)
