"""What one model's consumer tells of itself: in its worker's heartbeat, and of single requests when it is asked."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts import envelope
from contracts.clock import now_ms
from contracts.completion import Completion, Escalation
from contracts.outcomes import Outcome
from contracts.waits import until_start_ms
from contracts.workers import LaneLoad, ModelLoad
from inference.claims import Place
from inference.generation import Generator
from inference.holding import Holding
from inference.lane import Lane, Ticket
from inference.outcome_count import OutcomeCount
from inference.pace import Pace
from inference.turns import Turns

_TENANTS = 32  # that are told
_CUT_SHORT = (Outcome.EXPIRED, Outcome.REJECTED, Outcome.CANCELLED)
Ends = dict[TopicPartition, int]


class Standing(NamedTuple):
    """Of one request. `starts_at`: UTC ms, expected, or when it has started; None while no pace is known."""

    ahead: int  # requests that start before it
    starts_at: int | None


class Telling:
    """`lanes` are by name; `running` are the tickets that run, whatever they are filed under."""

    def __init__(
        self,
        generator: Generator,
        lanes: Mapping[envelope.Lane, Lane],
        turns: Turns,
        holding: Holding,
        consumer: AIOKafkaConsumer,
        running: Mapping[Any, Ticket],
        room: int,
        clock: Callable[[], float],
    ) -> None:
        self._generator = generator
        self._lanes = lanes
        self._turns = turns
        self._holding = holding
        self._consumer = consumer
        self._running = running
        self._room = room
        self._told_waiting = 0
        self._read_at: dict[TopicPartition, int] = {}
        self.pace = Pace(room, clock)
        self.outcomes = OutcomeCount()
        self.on_change: Callable[[], None] = lambda: None  # called when what `load` tells has changed much

    async def load(self) -> ModelLoad:
        """As it is now. Raises KafkaError."""
        ends = {name: await self._ends(lane) for name, lane in self._lanes.items()}
        self._told_waiting = self._waiting
        generator, engine = self._generator, self._generator.engine.load()
        return ModelLoad(
            model=generator.model,
            model_version=generator.model_version,
            engine=generator.engine.name,
            generation=self._holding.generation,
            running=self.pace.crowd,
            room=self._room,
            kv_used=engine.kv_usage if engine else None,
            prefill_tokens_per_second=generator.speed.prefill.look(),
            decode_tokens_per_second=generator.speed.decode.look(),
            outcomes=self.outcomes.told,
            lanes=tuple(self._lane(lane, ends[name]) for name, lane in self._lanes.items()),
        )

    def read(self, record: ConsumerRecord) -> None:
        """It has come, whatever becomes of it."""
        self._read_at[TopicPartition(record.topic, record.partition)] = record.timestamp

    def look(self) -> None:
        """Whether so much more or less waits than was told that it shouldn't wait for the next beat."""
        if abs(self._waiting - self._told_waiting) > max(self._room, self._told_waiting // 4):
            self._told_waiting = self._waiting
            self.on_change()

    def locate(self, claim: str) -> Standing | None:
        """Where a request stands that waits or runs here."""
        known = claim.encode()
        for ticket in self._running.values():
            if ticket.claim == known:
                since = self.pace.began_ago(ticket.place)
                return Standing(0, None if since is None else now_ms() - round(since * 1000))
        for lane in self._lanes.values():
            ticket_waiting = lane.find(known)
            if ticket_waiting and (ahead := lane.ahead(ticket_waiting)):
                wait_ms = until_start_ms(self._lane(lane, {}), ahead[1])
                return Standing(ahead[0], None if wait_ms is None else now_ms() + wait_ms)
        return None

    def ended(self, place: Place | None, completion: Completion | Escalation) -> None:
        """A run, while it still has its place in the engine. How long one takes that was cut short tells nothing."""
        self.outcomes.count(completion)
        if place and (isinstance(completion, Escalation) or completion.outcome in _CUT_SHORT):
            self.pace.drop(place)

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._lanes.values()))

    async def _ends(self, lane: Lane) -> Ends:
        """Of the partitions that are ours; asked for only where nothing is being fetched: else all has been read."""
        partitions = [partition for partition in self._consumer.assignment() if partition.topic == lane.topic]
        if lane.is_short:
            return dict.fromkeys(partitions, 0)
        ends: Ends = await self._consumer.end_offsets(partitions)
        return ends

    def _lane(self, lane: Lane, ends: Ends) -> LaneLoad:
        running, waiting = self.pace.running(lane.name), len(lane)
        places = max(running if waiting else self._places(lane.name), running, 1)
        unread = sum(max(end - self._holding.read_to(partition), 0) for partition, end in ends.items())
        mean = lane.tokens / waiting if waiting else self.pace.mean_tokens(lane.name)
        seconds = self.pace.seconds_per_token(lane.name)
        return LaneLoad(
            lane=lane.name,
            positions={partition.partition: self._holding.position(partition) for partition in sorted(ends)},
            read_at={partition.partition: at for partition in ends if (at := self._read_at.get(partition))},
            running=running,
            waiting=waiting,
            unread=unread,
            queued_tokens=round(lane.tokens + unread * mean),
            tenants=lane.queued(_TENANTS),
            places=places,
            frees_ms=self.pace.frees_ms(lane.name, places),
            mean_tokens=round(mean),
            ms_per_token=None if seconds is None else seconds * 1000,
            spread=self.pace.spread(lane.name),
        )

    def _places(self, lane: envelope.Lane) -> int:
        """Requests that a lane may have in the engine while nothing of it waits; else it has what runs."""
        if lane == "batch":
            return min(self._turns.batch_room, self._room)
        return self._room - self.pace.running("batch")
