"""What reconcile found: counts per partition and tenant, sums on both sides, and every fault by its name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from analytics.reconcile.claims import Verdict
from analytics.reconcile.usage_log import Offsets
from contracts.outcomes import Outcome


class Fault(StrEnum):
    """Each is one thing that must not be."""

    DROPPED = "dropped"  # a request that Kafka took, and dedupe passed without a trace
    LOST = Verdict.LOST
    UNBILLED = Verdict.UNBILLED
    MISBILLED = Verdict.MISBILLED
    UNANSWERED = Verdict.UNANSWERED
    UNADMITTED = Verdict.UNADMITTED
    MISSING = "missing"  # an offset of `usage` that is not in the ledger
    REFUSED = "refused"  # a usage event that the ledger did not take: it rests in the dead letters
    DOUBLED = "doubled"  # an event that the ledger holds more than once
    DIFFERS = "differs"  # a row that says something else than its record
    FOREIGN = "foreign"  # a row that no record of `usage` accounts for


EXPLAINED = {
    Fault.DROPPED: "accepted by Kafka, and then neither claimed nor refused",
    Fault.LOST: "every stage has passed it, and it has no outcome",
    Fault.UNBILLED: "it has an outcome, and no usage event",
    Fault.MISBILLED: "its usage event is not the one that its first outcome makes",
    Fault.UNANSWERED: "it is billed, and has no outcome",
    Fault.UNADMITTED: "it has an outcome, and was never admitted",
    Fault.MISSING: "its usage event is not in ClickHouse",
    Fault.REFUSED: "ClickHouse refused its usage event, which rests in the dead letters",
    Fault.DOUBLED: "its usage event is in ClickHouse more than once",
    Fault.DIFFERS: "its row in ClickHouse says something else than its usage event",
    Fault.FOREIGN: "a row in ClickHouse that no usage event accounts for",
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A fault, and the request that it befell; `place` is <topic> <partition>.<offset>."""

    fault: Fault
    place: str
    tenant: str = ""
    key: str = ""

    @property
    def request(self) -> str:
        return f"{self.tenant}:{self.key}" if self.key else "?"


@dataclass(frozen=True, slots=True)
class Claimed:
    """Claims of one tenant or one partition, and what became of them."""

    name: str
    outcomes: Mapping[Outcome, int]  # first outcomes
    verdicts: Mapping[Verdict, int]

    @property
    def claims(self) -> int:
        return sum(self.verdicts.values())

    @property
    def ended(self) -> int:
        return sum(self.outcomes.values())

    @property
    def billed(self) -> int:
        return sum(self.verdicts.get(v, 0) for v in (Verdict.SETTLED, Verdict.MISBILLED, Verdict.UNANSWERED))

    @property
    def off(self) -> int:
        return sum(count for known, count in self.verdicts.items() if not known.fine)

    def __getitem__(self, verdict: Verdict) -> int:
        return self.verdicts.get(verdict, 0)


def claimed(name: str, counts: Mapping[tuple[int, Verdict, Outcome | None], int]) -> Claimed:
    """From ClaimLog.counts()."""
    outcomes: Counter[Outcome] = Counter()
    verdicts: Counter[Verdict] = Counter()
    for (_, known, outcome), count in counts.items():
        verdicts[known] += count
        if outcome:
            outcomes[outcome] += count
    return Claimed(name, outcomes, verdicts)


@dataclass(frozen=True, slots=True)
class Stored:
    """One partition of `usage`, from `first` up to `end`."""

    partition: int
    first: int
    end: int
    records: int
    rows: int  # offsets that have one
    duplicates: int  # records whose event is stored under another offset: a crash published it again
    on_the_way: int  # records of the window that the sink has not committed yet
    missing: Sequence[Offsets] = ()
    doubled: Sequence[int] = ()


@dataclass(slots=True)
class Sums:
    """Of one tenant's events. Tokens and nano-dollars; `waste` are events of that kind."""

    events: int = 0
    waste: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0

    def add(self, other: "Sums", sign: int = 1) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))


@dataclass(frozen=True, slots=True)
class Report:
    """`since` and `until` in UTC ms; `kafka` and `ledger` are sums by tenant over the same offsets of `usage`."""

    since: int
    until: int
    tenants: Sequence[Claimed]
    partitions: Sequence[Claimed]
    usage: Sequence[Stored]
    kafka: Mapping[str, Sums]
    ledger: Mapping[str, Sums]
    faults: Mapping[Fault, int]
    findings: Sequence[Finding]  # of each fault the first ones only, see `faults` for how many there are
    records_read: int = 0
    seconds: float = 0.0
    notes: Sequence[str] = field(default=())

    @property
    def unequal(self) -> list[str]:
        """Tenants whose sums differ between Kafka and the ledger."""
        names = sorted({*self.kafka, *self.ledger})
        return [name for name in names if self.kafka.get(name, Sums()) != self.ledger.get(name, Sums())]

    @property
    def clean(self) -> bool:
        return not self.faults and not self.unequal

    @property
    def missing(self) -> dict[int, Sequence[Offsets]]:
        """By partition of `usage`: what a repair reads again."""
        return {line.partition: line.missing for line in self.usage if line.missing}


def total(sums: Mapping[str, Sums]) -> Sums:
    whole = Sums()
    for line in sums.values():
        whole.add(line)
    return whole
