"""One model's consumer: takes as many records as its engine has room for and commits them in the order they came."""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from contracts.completion import Completion
from contracts.errors import InvalidRequest
from contracts.kafka import client_options, header
from contracts.outcomes import Outcome
from contracts.poison_limit import PoisonLimit
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from inference.attempts import Trail
from inference.claims import Claims, Place
from inference.engine import AttemptsExhausted, EngineDied, EngineStalled
from inference.generation import Assignment, Generator
from inference.lane import Lane
from inference.offsets import OffsetTracker
from inference.outbox import Outbox
from inference.solitude import Solitude

log = structlog.get_logger()
_POLL_MS = 1000
_AHEAD = 128  # records fetched ahead in each lane, so that a place in the batch is never empty for a fetch's time
# Between two polls there may be a whole generation, since a full engine takes nothing. Kafka needn't know: heartbeats
# say that this process lives, and they stop with its event loop.
_MAX_POLL_INTERVAL_MS = 2**31 - 1
_FETCH_WAIT_MS = (
    100  # one fetch per broker is under way: an idle lane's long poll must not keep the other from fetching
)
_TAKING_SECONDS = 0.005


class ModelConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Consumes both lanes of one model. `room` is how many requests may run at once."""

    def __init__(
        self,
        model: str,
        settings: Settings,
        generator: Generator,
        outbox: Outbox,
        room: int,
        die: Callable[[str], None],
        solitude: Solitude,
    ) -> None:
        self.model = model
        self._settings = settings
        self._generator = generator
        self._outbox = outbox
        self._room = room
        self._die = die
        self._solitude = solitude
        solitude.on_over(self._fill)
        self._lanes = [Lane(Topics.of(settings).work(model, lane), _AHEAD) for lane in LANES]
        self._consumer = _kafka_consumer(model, settings)
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._trails: dict[TopicPartition, Trail] = {}
        self._floors: dict[TopicPartition, int] = {}  # positions at the time of the assignment
        self._dealing = True  # from one assignment to the next nothing starts
        self._held = False  # what the commits' texts say
        self._claims = Claims()
        self._poison = PoisonLimit.of(settings)
        self._running: set[asyncio.Task[None]] = set()  # in the engine, or being published
        self._in_engine = 0
        self._dealt = asyncio.Event()
        self._stopping = False
        self._finished = asyncio.Event()
        self._committed: dict[TopicPartition, object] = {}
        self._committing = asyncio.Lock()
        self.joined = asyncio.Event()

    async def start(self) -> None:
        """Raises KafkaError when no broker answers."""
        self._consumer.subscribe([lane.topic for lane in self._lanes], listener=self)
        await self._consumer.start()
        # By default aiokafka fetches nothing more from a broker for 100 ms after records came that weren't taken yet:
        # batch work that waits for room would hold up interactive work. With no pause at all the next fetch leaves
        # out the partition whose records are just being taken, and its next record waits for that fetch to end.
        self._consumer._fetcher._prefetch_backoff = _TAKING_SECONDS  # noqa: SLF001 - there is no setting for it

    async def run(self) -> None:
        """Takes work until cancelled. Raises KafkaError when that can't go on."""
        tasks = [asyncio.create_task(self._follow(lane), name=lane.topic) for lane in self._lanes]
        tasks.append(asyncio.create_task(self._commit_regularly(), name=f"commit {self.model}"))
        try:
            await asyncio.gather(*tasks)
        finally:
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def stop(self, drain_seconds: float) -> None:
        """Finishes what runs, as far as it can in that time; aborts the rest, which stays uncommitted; leaves."""
        if self._running:
            await asyncio.wait(self._running, timeout=drain_seconds)
        unfinished = list(self._running)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        if unfinished:
            log.warning("Left unfinished for the next worker.", model=self.model, requests=len(unfinished))
        await self._leave()
        await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """What is finished is committed while the partitions are still ours; what runs goes on."""
        for lane in self._lanes:
            lane.clear()
        await self._leave()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._committed.clear()
        for lane in self._lanes:
            lane.clear()  # what a fetch under the old assignment still brought
        for partition in assigned:
            self._trackers.setdefault(partition, OffsetTracker()).assigned()
        await self._take_over(list(assigned))
        self._dealing = False
        self._dealt.set()
        self.joined.set()
        self._fill()

    async def _take_over(self, assigned: list[TopicPartition]) -> None:
        """Learns what earlier workers died on, and says that from now on these partitions are held."""
        self._trails.clear()
        self._floors.clear()
        self._held = True
        try:
            # The public `committed()` leaves out the text that was committed with the offset.
            found = await self._consumer._coordinator.fetch_committed_offsets(assigned)  # noqa: SLF001
            starts = await self._consumer.beginning_offsets(assigned)
            ends = await self._consumer.end_offsets(assigned)
        except KafkaError as error:
            log.warning("What earlier workers died on is unknown.", model=self.model, error=repr(error))
            return
        for partition in assigned:
            kept = found.get(partition)
            position = kept.offset if kept and kept.offset >= 0 else starts[partition]
            trail = Trail.take_over(kept.metadata if kept else "", position, ends[partition], self._room)
            if trail.died:
                log.warning("The worker before died.", topic=partition.topic, partition=partition.partition)
            self._floors[partition], self._trails[partition] = position, trail
        await self._commit()

    async def _leave(self) -> None:
        """What is finished is committed, and that this worker lives: what it runs is nobody's crash."""
        self._dealing, self._held = True, False
        await self._commit()

    async def _follow(self, lane: Lane) -> None:
        """Fetches a lane's records ahead of their turn, and starts what there is room for."""
        while True:
            await lane.until_short()
            lane.put(await self._fetch(lane))
            self._fill()

    async def _fetch(self, lane: Lane) -> list[ConsumerRecord]:
        """More records, or none within a poll's time. Raises KafkaError."""
        partitions = [partition for partition in self._consumer.assignment() if partition.topic == lane.topic]
        if not partitions:
            self._dealt.clear()
            await self._dealt.wait()
            return []
        try:
            found = await self._consumer.getmany(*partitions, timeout_ms=_POLL_MS, max_records=_AHEAD)
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("Kafka hesitates.", model=self.model, error=repr(error))
            await asyncio.sleep(_POLL_MS / 1000)
            return []
        return [record for records in found.values() for record in records]

    def _fill(self) -> None:
        """Starts what waits, as far as there is room; batch work only when no interactive work waits."""
        while self._in_engine < self._room and len(self._running) < 2 * self._room and not self._resting:
            record = next((record for lane in self._lanes if (record := lane.pop())), None)
            if record is None:
                return
            self._accept(record)

    @property
    def _resting(self) -> bool:
        return self._stopping or self._dealing or self._solitude.wanted

    def _accept(self, record: ConsumerRecord) -> None:
        partition = TopicPartition(record.topic, record.partition)
        if not self._trackers[partition].deliver(record.offset):
            self._finished.set()  # it may have ended between two assignments: only now can that be committed
            return
        place = Place(partition, record.offset)
        identity = (record.key or b"", header(record.headers, "claim") or b"")
        if self._claims.enter(identity, place):
            task = asyncio.create_task(self._process(record, identity, place))
            self._running.add(task)
            self._in_engine += 1
            task.add_done_callback(self._over)
        elif self._claims.has_finished(identity):
            self._mark([place])

    async def _process(self, record: ConsumerRecord, identity: tuple[bytes, bytes], place: Place) -> None:
        try:
            assignment = Assignment.parse(record)
            completion, body = await self._attempt(assignment, place)
        except AttemptsExhausted as error:
            await self._give_up(record, error)
        except InvalidRequest as error:
            log.warning("Dead letter.", key=(record.key or b"").decode(errors="replace"), reason=error.message)
            self._leave_engine()
            await self._outbox.dead_letter(record, error.message)
            self._count(poison=True)
        else:
            self._leave_engine()
            await self._outbox.complete(record, completion, body)
            self._count(poison=False)
        self._mark(self._claims.finish(identity))

    def _count(self, *, poison: bool) -> None:
        """What is given up isn't counted: no caller may stop a worker for the others."""
        if self._poison.count(poison=poison):
            self._die(f"{self.model}: {self._poison.sentence}")

    async def _give_up(self, record: ConsumerRecord, error: AttemptsExhausted) -> None:
        log.error("Given up.", key=(record.key or b"").decode(errors="replace"), reason=error.message)
        self._leave_engine()
        completion, body = self._generator.give_up(error)
        attempts = self._settings.worker_max_attempts
        await self._outbox.dead_letter(record, error.message, attempts=attempts, outcome=Outcome.FAILED)
        await self._outbox.complete(record, completion, body)

    async def _attempt(self, assignment: Assignment, place: Place) -> tuple[Completion, bytes]:
        """Runs it as its past asks for. Raises AttemptsExhausted, and what the generator raises but for a hang."""
        trail = self._trails.get(place.partition)
        tried = trail.tries(place.offset) if trail else 0
        if tried >= self._settings.worker_max_attempts:
            raise self._exhausted()
        if tried == self._settings.worker_max_attempts - 1:
            async with self._solitude.alone():
                await self._mark_start(place)
                return await self._try(assignment, tried)
        await self._solitude.enter()
        try:
            if tried:
                await self._mark_start(place)
            return await self._try(assignment, tried)
        finally:
            self._solitude.leave()

    async def _mark_start(self, place: Place) -> None:
        """Returns when Kafka knows that it runs: if this worker dies now, that counts."""
        if trail := self._trails.get(place.partition):
            trail.start(place.offset)
            await self._commit()

    async def _try(self, assignment: Assignment, tried: int) -> tuple[Completion, bytes]:
        """Again when it hangs, until its tries are spent."""
        for attempt in range(tried + 1, self._settings.worker_max_attempts + 1):
            try:
                return await self._generator.run(assignment)
            except EngineStalled as error:
                log.warning("A request hung.", key=assignment.name, attempt=attempt, error=error.message)
        raise self._exhausted()

    def _exhausted(self) -> AttemptsExhausted:
        return AttemptsExhausted(
            f"The request was tried {self._settings.worker_max_attempts} times; each time the engine died or hung."
        )

    def _leave_engine(self) -> None:
        """The next one needn't wait for this one's outcome to be published."""
        self._in_engine -= 1
        self._fill()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EngineDied):
            self._die(f"The engine of {self.model} died: {error.message}")
        elif error:
            self._die(f"An outcome of {self.model} could not be published: {error!r}")
        else:
            self._fill()

    def _mark(self, places: list[Place]) -> None:
        for place in places:
            self._trackers[place.partition].finish(place.offset)
            if trail := self._trails.get(place.partition):
                trail.finish(place.offset)
        self._finished.set()

    async def _commit_regularly(self) -> None:
        while True:
            await self._finished.wait()
            self._finished.clear()
            await self._commit()
            await asyncio.sleep(self._settings.worker_commit_interval_ms / 1000)

    async def _commit(self) -> None:
        """Positions that moved, of partitions that are ours. A commit that fails is made again with the next one."""
        async with self._committing:
            positions: dict[TopicPartition, int] = {}
            states: dict[TopicPartition, object] = {}
            for partition in self._consumer.assignment():
                position = self._position(partition)
                trail = self._trails.get(partition)
                state = (position, self._held, trail and trail.state)
                if position is not None and state != self._committed.get(partition):
                    positions[partition], states[partition] = position, state
            if positions:
                await self._commit_positions(positions, states)

    def _position(self, partition: TopicPartition) -> int | None:
        tracker = self._trackers.get(partition)
        position = tracker.position if tracker else None
        return self._floors.get(partition) if position is None else position

    def _text(self, partition: TopicPartition, position: int) -> str:
        """What the next worker must know if this one dies."""
        trail = self._trails.get(partition) or Trail()
        return trail.text(position, self._trackers[partition].begun, held=self._held)

    async def _commit_positions(
        self, positions: dict[TopicPartition, int], states: dict[TopicPartition, object]
    ) -> None:
        try:
            await self._consumer.commit({p: (offset, self._text(p, offset)) for p, offset in positions.items()})
        except (CommitFailedError, IllegalStateError) as error:
            log.info("Commit refused: the partitions moved.", model=self.model, error=repr(error))
        except KafkaError as error:
            log.warning("Commit failed.", model=self.model, error=repr(error))
            self._finished.set()
        else:
            self._committed.update(states)
            for partition, position in positions.items():
                self._trackers[partition].committed(position)


def _kafka_consumer(model: str, settings: Settings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=Topics.of(settings).worker_group(model),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=settings.worker_session_timeout_ms,
        heartbeat_interval_ms=settings.worker_session_timeout_ms // 6,
        max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
        metadata_max_age_ms=5000,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
