"""What the router knows of the world beside the record: who serves which model, how long it would wait, what fails.

It comes from the workers' beats, which stand outside the log's order: a replay may see others. So what is decided by
them is kept, with the reservation or as the refusal, and not decided anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from contracts.envelope import Admitted
from contracts.outlook import Outlook, Sent
from contracts.settings import Settings
from streams.partition import partition_of
from streams.policy.breaker import Breakers, Limits
from streams.policy.case import Away, Conditions
from streams.records import Record
from streams.route import Route

T = TypeVar("T")


class Surroundings:
    """As of now, for one decision after the other."""

    def __init__(self, settings: Settings) -> None:
        self._partitions = settings.work_partitions
        self._deadline_ms = settings.interactive_deadline_seconds * 1000
        self._absent_ms = settings.worker_absent_seconds * 1000
        self.outlook = Outlook()
        self.breakers = Breakers(Limits.of(settings))

    def apply(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Keys and values of `workers`."""
        self.outlook.apply(records)
        self.breakers.look(self.outlook.beats)

    def conditions(self, request: Admitted, record: Record, budget_used: float) -> Conditions:
        """Each model is asked about only if the choice depends on it."""
        return Conditions(
            budget_used,
            _Asked(lambda model: self._wait_ms(model, request, record)),
            _Asked(lambda model: self._down(model, record.seen_at)),
            self._deadline(request),
        )

    def sent(self, request: Admitted, route: Route, tokens: int, at: int) -> None:
        """It goes to that model now: what comes next waits behind it."""
        sent = Sent(at, self._partition(request), _tenant(request), tokens)
        self.outlook.add(route.model, request.lane, sent)
        breaker = self.breakers.of(route.model)
        if breaker.opened:
            breaker.probed(at)

    def _wait_ms(self, model: str, request: Admitted, record: Record) -> int | None:
        """From the record's time, by which deadlines are compared. None when it can't be told."""
        behind = max(record.seen_at - record.timestamp, 0)
        if self.outlook.serves(model, record.seen_at) is False:
            return self._absent_ms + behind
        wait = self.outlook.wait(model, request.lane, self._partition(request), _tenant(request), record.seen_at)
        return None if wait is None or wait.ms is None else wait.ms + behind

    def _down(self, model: str, now: int) -> Away | None:
        if self.outlook.serves(model, now) is False:
            return "no_worker"
        return "failing" if self.breakers.of(model).refuses(now) else None

    def _deadline(self, request: Admitted) -> int | None:
        """Of those that name none: the workers go by the same."""
        if request.lane != "interactive" or not self._deadline_ms:
            return None
        return request.accepted_at + self._deadline_ms

    def _partition(self, request: Admitted) -> int:
        return partition_of(request.request_key.encode(), self._partitions)


class _Asked(Mapping[str, T]):
    """Finds out when it is asked, once."""

    def __init__(self, find: Callable[[str], T | None]) -> None:
        self._find = find
        self._known: dict[str, T | None] = {}

    def __getitem__(self, model: str) -> T:
        if model not in self._known:
            self._known[model] = self._find(model)
        found = self._known[model]
        if found is None:
            raise KeyError(model)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([model for model, found in self._known.items() if found is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _tenant(request: Admitted) -> str:
    return request.request_key.partition(":")[0]
