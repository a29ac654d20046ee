"""Tally: what a request really used takes the place of what it had reserved."""

from contracts.outcomes import Outcome
from contracts.topics import TENANT_TABLE, Topics
from contracts.usage import UsageEvent, UsageKind
from streams.dead_letters import dead_letter
from streams.metrics import ended
from streams.records import Output, Record
from streams.reservation import Hold, ReservationKey
from streams.reservations import Reservations
from streams.stage import House, Stage
from streams.state import State
from streams.tenants import Book

STAGE = "meter"  # to operators they are one
_BEFORE_ADMISSION = (Outcome.CANCELLED, Outcome.EXPIRED)  # may come to what the meter hasn't seen yet

# The reservation is for the attempt that follows as well; and a shadow run has none.
_HOLDS_NOTHING = (UsageKind.ESCALATED, UsageKind.SHADOW)


def tally(house: House) -> Stage:
    """Settles reservations, from `usage`."""
    reservations = Reservations(house.settings.reservation_ttl_seconds * 1000)
    partitions = house.settings.tenant_partitions
    return Stage(
        "tally",
        house.topics.usage,
        TENANT_TABLE,
        partitions,
        lambda state: Tally(house.topics, reservations, state),
    )


class Tally:
    """One batch of one partition."""

    def __init__(self, topics: Topics, reservations: Reservations, state: State) -> None:
        self._topics = topics
        self._reservations = reservations
        self._book = Book(state)

    def decide(self, record: Record) -> list[Output]:
        try:
            event = UsageEvent.model_validate_json(record.value)
        except ValueError:
            return [dead_letter(self._topics, STAGE, record, "The value is not a usage event.")]
        self._settle(record, event)
        return []

    def close(self) -> None:
        self._book.close()

    def _settle(self, record: Record, event: UsageEvent) -> None:
        book = self._book
        tenant = self._reservations.tenant(book, event.tenant, record)
        if record.offset <= tenant.settled:
            return
        tenant.settled = record.offset
        ended(event)
        if event.kind in _HOLDS_NOTHING:
            return
        key = ReservationKey(event.tenant, event.accepted_at, event.claim)
        held = book.reservation(key)
        if held is None:  # settle publishes again after a crash; or it was turned away, and never had one
            if event.outcome in _BEFORE_ADMISSION and event.kind is UsageKind.USAGE:
                self._reservations.close(book, key, tenant.at)
        elif held.hold is not Hold.SETTLED:
            if event.kind is UsageKind.WASTE:
                self._reservations.release(book, key, held)
            else:
                self._reservations.settle(book, key, held, event)
