"""What this process knows of the workers: how long a request would wait, and whether anybody could take it in time."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, cast

from aiokafka.partitioner import murmur2

from contracts.catalogue import Catalogue
from contracts.clock import now_ms
from contracts.envelope import Digest, Lane
from contracts.errors import NoWorker, OverCapacity
from contracts.keys import RequestKey
from contracts.outlook import Outlook, Wait
from contracts.settings import Settings


class BeatRecord(Protocol):
    """A record on `workers`, as aiokafka gives it."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Expected(NamedTuple):
    """Of a request that isn't running yet; None where it can't be told."""

    queue_position: int | None = None
    estimated_start_at: int | None = None  # UTC ms


UNKNOWN = Expected()


class Capacity:
    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._models = list(catalogue.models)
        self.outlook = Outlook()

    def apply(self, records: Iterable[BeatRecord]) -> None:
        self.outlook.apply((record.key, record.value) for record in records)

    def check(self, key: RequestKey, asked: Digest, headers: Mapping[str, bytes]) -> None:
        """Turns away what nobody could start in time, by the headers of its record. Which model it would go to is for
        the policy, that isn't known here: so only what no model at all could take is turned away.

        Raises OverCapacity or NoWorker.
        """
        now, lane = now_ms(), _lane(headers)
        by = self._deadline(headers, lane, now)
        if by is None or by < now:
            return
        waits = [self._wait_ms(model, lane, key, now) for model in self._models]
        if any(wait is None or now + wait <= by for wait in waits):
            return
        seconds = (now + min(wait for wait in waits if wait is not None) - by) / 1000
        if not any(self.outlook.serves(model, now) for model in self._models):
            raise NoWorker("No worker is there to serve a request now, and its deadline is near.", retry_after=seconds)
        raise OverCapacity(
            f"A request to {asked.requested_model!r} would wait longer for its turn than its deadline allows.",
            param="deadline",
            retry_after=seconds,
        )

    def expect(self, key: RequestKey, model: str, headers: Mapping[str, bytes]) -> Expected:
        """Of a request that has just been accepted. Where the router is to choose, only an idle house can be told."""
        now, lane = now_ms(), _lane(headers)
        names = [model] if model in self._models else self._models
        waits = [self._wait(name, lane, key, now) for name in names]
        if len(waits) > 1 and any(wait is None or wait.ahead or wait.ms for wait in waits):
            return UNKNOWN
        wait = waits[0]
        if wait is None:
            return UNKNOWN
        return Expected(wait.ahead, None if wait.ms is None else now + wait.ms)

    def _wait(self, model: str, lane: Lane, key: RequestKey, now: int) -> Wait | None:
        partition = (murmur2(key.encode()) & 0x7FFFFFFF) % self._settings.work_partitions
        return self.outlook.wait(model, lane, partition, key.tenant, now)

    def _wait_ms(self, model: str, lane: Lane, key: RequestKey, now: int) -> int | None:
        if self.outlook.serves(model, now) is False:
            return self._settings.worker_absent_seconds * 1000
        wait = self._wait(model, lane, key, now)
        return wait.ms if wait else None

    def _deadline(self, headers: Mapping[str, bytes], lane: Lane, now: int) -> int | None:
        """UTC ms; the workers go by the same."""
        usual = self._settings.interactive_deadline_seconds * 1000
        if given := headers.get("deadline"):
            return int(given)
        return now + usual if usual and lane == "interactive" else None


def _lane(headers: Mapping[str, bytes]) -> Lane:
    return cast("Lane", headers.get("lane", b"interactive").decode())
