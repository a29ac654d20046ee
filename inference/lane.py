"""One lane's records that were read ahead and wait for room in the engine, fairly between their tenants."""

import asyncio
from collections.abc import Mapping
from math import inf
from typing import NamedTuple, Self

from aiokafka import ConsumerRecord, TopicPartition

from contracts import envelope
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from contracts.workers import Queued
from inference.claims import Place
from inference.fair_queue import FairQueue, Rank
from inference.weights import parse_weights

SHADOWS = ""  # the tenant of all shadow runs


class Ticket(NamedTuple):
    """A record that waits for its turn, or runs."""

    record: ConsumerRecord
    lane: "Lane"
    place: Place
    tenant: str
    claim: bytes
    stream: bool
    tokens: int  # as it was estimated
    deadline: int | None  # UTC ms
    priority: int
    turn: int
    shadow: bool = False  # runs only while nothing else wants to

    @classmethod
    def of(cls, record: ConsumerRecord, lane: "Lane") -> Self:
        """Headers that don't fit make it go first: whoever runs it finds out what is wrong."""
        headers = dict(record.headers)
        place = Place(TopicPartition(record.topic, record.partition), record.offset)
        tenant = (record.key or b"").partition(b":")[0].decode("utf-8", "replace")
        try:
            deadline = int(headers["deadline"]) if "deadline" in headers else lane.deadline_of(headers)
            numbers = (int(headers.get(name, b"0")) for name in ("reserved-tokens", "priority", "turn"))
            tokens, priority, turn = numbers
        except (KeyError, ValueError):
            deadline, tokens, priority, turn = 0, 0, 0, 0
        stream = headers.get("stream") == b"1"
        claim = headers.get("claim", b"")
        if shadow := "shadow-of" in headers:  # it is nobody's, and asks for no share
            tenant, claim, tokens = SHADOWS, claim + b"/shadow", 0
        return cls(record, lane, place, tenant, claim, stream, tokens, deadline, priority, turn, shadow)

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """Without a claim it is like no other."""
        return self.record.key or b"", self.claim or repr(self.place).encode()

    @property
    def rank(self) -> Rank:
        """Within its tenant: by priority, then whose deadline comes first, then who was let through first: it is read
        from several partitions, in no order."""
        return self.priority, inf if self.deadline is None else self.deadline, self.turn

    @property
    def size(self) -> int:
        """Bytes, without what Python adds."""
        return len(self.record.value or b"")


class Lane:
    """Priorities and deadlines order the work of one tenant; weights share out what there is between tenants."""

    def __init__(self, name: envelope.Lane, topic: str, settings: Settings) -> None:
        self.name = name
        self.topic = topic
        self._ahead = settings.worker_read_ahead
        self._ahead_bytes = settings.worker_read_ahead_mb * 2**20
        self._deadline_ms = settings.interactive_deadline_seconds * 1000 if name == "interactive" else 0
        weights = parse_weights(settings.tenant_weights)
        self._waiting: FairQueue[Ticket] = FairQueue(lambda tenant: weights.get(tenant, 1.0))
        self._by_claim: dict[bytes, Ticket] = {}
        self._bytes = 0
        self._shadows = 0
        self._short = asyncio.Event()
        self._short.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for something in it: nobody does for shadow runs."""
        return len(self._waiting) > self._shadows

    def deadline_of(self, headers: Mapping[str, bytes]) -> int | None:
        """Of a request that names none, UTC ms."""
        return int(headers["accepted-at"]) + self._deadline_ms if self._deadline_ms else None

    async def until_short(self) -> None:
        """Returns when more should be fetched."""
        await self._short.wait()

    def put(self, ticket: Ticket) -> None:
        self._waiting.push(ticket.tenant, ticket, max(ticket.tokens, 1), ticket.rank)
        self._by_claim[ticket.claim] = ticket
        self._bytes += ticket.size
        self._shadows += ticket.shadow
        self._look()

    @property
    def tokens(self) -> int:
        """That wait, as they were estimated."""
        return self._waiting.cost

    @property
    def oldest(self) -> int | None:
        """When the one that waits longest was let through, UTC ms."""
        return min((ticket.record.timestamp for ticket in self._by_claim.values()), default=None)

    @property
    def next_tenant(self) -> str | None:
        """Whose request is next."""
        return self._waiting.next_tenant

    def pop(self) -> Ticket | None:
        ticket = self._waiting.pop()
        if ticket:
            self._by_claim.pop(ticket.claim, None)
            self._bytes -= ticket.size
            self._shadows -= ticket.shadow
            self._look()
        return ticket

    def find(self, claim: bytes) -> Ticket | None:
        """One that waits, and goes on waiting: who starts it out of its turn must pass over it then."""
        return self._by_claim.get(claim)

    @property
    def is_short(self) -> bool:
        """Whether more is being fetched: if not, nobody knows how much more there is."""
        return self._short.is_set()

    def queued(self, most: int) -> dict[str, Queued]:
        """By tenant, of those that have most."""
        return {tenant: Queued(*told) for tenant, told in self._waiting.longest(most).items()}

    def ahead(self, ticket: Ticket) -> tuple[int, int] | None:
        """Requests and tokens that go before one that waits; None when it doesn't."""
        return self._waiting.ahead(ticket.tenant, ticket)

    def charge(self, tenant: str, tokens: int) -> None:
        """A request took so many more tokens than were estimated, or less."""
        self._waiting.charge(tenant, tokens)

    def clear(self) -> None:
        """The partitions are dealt anew: what is ours then will be delivered again."""
        self._waiting.clear()
        self._by_claim.clear()
        self._bytes = 0
        self._shadows = 0
        self._short.set()

    def _look(self) -> None:
        if len(self._waiting) < self._ahead and self._bytes < self._ahead_bytes:
            self._short.set()
        else:
            self._short.clear()


def open_lanes(model: str, settings: Settings) -> dict[envelope.Lane, Lane]:
    """Raises ConfigError."""
    topics = Topics.of(settings)
    return {name: Lane(name, topics.work(model, name), settings) for name in LANES}
