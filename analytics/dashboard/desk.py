"""What the dashboard asks of the running system, beside the ledger. Whoever starts it gives it one (millrace/desk.py);
without, the views that need it say so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contracts.catalogue import Catalogue
from contracts.frames import RequestState
from contracts.keys import RequestKey
from contracts.limit_usage import AccountUsage
from contracts.limits import Limit, Selector


@dataclass(frozen=True, slots=True)
class LetterLine:
    """A dead letter as people read it; never its body. Times are UTC ms."""

    id: str  # <partition>.<offset>
    at: int
    stage: str
    reason: str
    tenant: str
    key: str
    topic: str  # where it came from
    partition: int
    offset: int
    attempts: int
    outcome: str  # how its client was answered; empty when it wasn't
    bytes: int  # of its body
    handled: str  # redriven, dropped, or empty
    handled_at: int | None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many went on their way, and why the others stay, by id."""

    count: int
    stay: dict[str, str]


class Desk(Protocol):
    """Each raises StackError when the system doesn't answer, InvalidRequest when what is named isn't there."""

    async def limit_usage(self, tenant: str) -> tuple[list[AccountUsage], bool]:
        """The nearest to a limit first, and whether these are all; of every tenant when none is named."""

    async def limits(self) -> Mapping[Selector, Limit]:
        """As they are set."""

    async def catalogue(self) -> Catalogue:
        """The models and the routing policy in force, with the thresholds that were calibrated."""

    async def request_state(self, key: RequestKey) -> RequestState | None:
        """Of a request that the ledger doesn't have yet."""

    async def letters(self, *, since: int, tenant: str, handled: bool) -> list[LetterLine]:
        """From that time on (UTC ms), of one tenant if named, oldest first; `handled`: those too."""

    async def redrive(self, ids: Sequence[str]) -> Redriven: ...

    async def drop(self, ids: Sequence[str]) -> int: ...
