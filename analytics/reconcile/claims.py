"""One partition of `requests`: what became of each claim, in 15 bytes a record.

A claim is a place on `requests`, so everything that later topics say of it is written at that place. Facts may come in
any order and any number of times; the verdict is the same.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

from contracts.outcomes import Outcome

ADMITTED, WAITING, ENDED, UNSETTLED, BILLED, WASTED, WRONG = (1 << bit for bit in range(7))
_FACTS = 0xFF
_OUTCOME_SHIFT = 8
_OUTCOMES = (None, *Outcome)
_CODES = {outcome.value: code << _OUTCOME_SHIFT for code, outcome in enumerate(_OUTCOMES) if outcome}


class Verdict(StrEnum):
    """What became of a claim. The first three are as they should be."""

    SETTLED = "settled"  # one outcome, one usage event, and they agree
    SUPERSEDED = "superseded"  # a crash made two claims of one key: the other one won, and this run counts as waste
    IN_FLIGHT = "in_flight"  # some stage has not committed past its record yet
    LOST = "lost"  # every stage has passed it, and it has no outcome
    UNBILLED = "unbilled"  # settle has passed its outcome, and there is no usage event
    MISBILLED = "misbilled"  # its usage event is not the one that its first outcome makes
    UNANSWERED = "unanswered"  # billed, and it has no outcome
    UNADMITTED = "unadmitted"  # it has an outcome, and was never admitted

    @property
    def fine(self) -> bool:
        return self in _FINE


_FINE = frozenset({Verdict.SETTLED, Verdict.SUPERSEDED, Verdict.IN_FLIGHT})


def verdict(facts: int) -> Verdict | None:
    """None for a record on `requests` that claimed nothing: a duplicate, a question, a refusal."""
    if not facts & ENDED:
        return _open(facts)
    if not facts & ADMITTED:
        return Verdict.UNADMITTED
    if facts & BILLED:
        return Verdict.MISBILLED if facts & WRONG else Verdict.SETTLED
    if facts & WASTED:
        return Verdict.SUPERSEDED
    return Verdict.IN_FLIGHT if facts & UNSETTLED else Verdict.UNBILLED


def _open(facts: int) -> Verdict | None:
    if facts & BILLED:
        return Verdict.UNANSWERED
    if not facts & ADMITTED:
        return None
    return Verdict.IN_FLIGHT if facts & WAITING else Verdict.LOST


class ClaimLog:
    """Offsets `first` up to `end`; what is said of others is ignored. `tenant` is a number of the caller's, from 1."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, max(first, end)
        count = self.end - first
        self._facts = array("H", bytes(2 * count))
        self._tenants = array("I", bytes(4 * count))
        self._measures = array("q", bytes(8 * count))

    def admitted(self, offset: int, tenant: int) -> None:
        if self._holds(offset):
            self._add(offset, ADMITTED, tenant)

    def waiting(self, offset: int, tenant: int) -> None:
        """A record of the claim lies before a stage that has not committed past it."""
        if self._holds(offset):
            self._add(offset, WAITING, tenant)

    def ended(self, offset: int, tenant: int, outcome: str, measure: int, *, settled: bool) -> None:
        """Outcomes in the order of their offsets: the first one counts. `measure` stands for what it bills."""
        if self._holds(offset) and not self._facts[offset - self.first] & ENDED:
            self._measure(offset, measure)
            self._add(offset, ENDED | _CODES[outcome] | (0 if settled else UNSETTLED), tenant)

    def billed(self, offset: int, tenant: int, measure: int, *, genuine: bool) -> None:
        """A usage event. `genuine`: its id is the one that the claim makes."""
        if self._holds(offset):
            self._measure(offset, measure)
            self._add(offset, BILLED if genuine else BILLED | WRONG, tenant)

    def wasted(self, offset: int, tenant: int) -> None:
        if self._holds(offset):
            self._add(offset, WASTED, tenant)

    def was_admitted(self, offset: int) -> bool:
        return self._holds(offset) and bool(self._facts[offset - self.first] & ADMITTED)

    def counts(self) -> Counter[tuple[int, Verdict, Outcome | None]]:
        """Claims by tenant, verdict and first outcome."""
        found: Counter[tuple[int, Verdict, Outcome | None]] = Counter()
        for (tenant, facts), count in Counter(zip(self._tenants, self._facts, strict=True)).items():
            if known := verdict(facts & _FACTS):
                found[tenant, known, _OUTCOMES[facts >> _OUTCOME_SHIFT]] += count
        return found

    def faults(self) -> Iterator[tuple[int, Verdict, Outcome | None]]:
        """Offset, verdict and first outcome of every claim that isn't as it should be."""
        kinds = {facts: known for facts in set(self._facts) if (known := verdict(facts & _FACTS)) and not known.fine}
        for place, facts in enumerate(self._facts if kinds else ()):
            if facts in kinds:
                yield self.first + place, kinds[facts], _OUTCOMES[facts >> _OUTCOME_SHIFT]

    def excuse(self, offset: int) -> None:
        """Its outcome came second to that of another claim of its key, and left nothing that could be counted."""
        self._facts[offset - self.first] |= WASTED

    def pending(self) -> bool:
        """Whether some claim's end has not been seen."""
        done = (Verdict.SETTLED, Verdict.SUPERSEDED, None)
        return any(verdict(facts & _FACTS) not in done for facts in set(self._facts))

    def _holds(self, offset: int) -> bool:
        return self.first <= offset < self.end

    def _add(self, offset: int, facts: int, tenant: int) -> None:
        place = offset - self.first
        self._facts[place] |= facts
        self._tenants[place] = tenant

    def _measure(self, offset: int, measure: int) -> None:
        """The outcome and the usage event must say the same, whichever is read first."""
        place = offset - self.first
        if not self._facts[place] & (ENDED | BILLED):
            self._measures[place] = measure
        elif self._measures[place] != measure:
            self._facts[place] |= WRONG
