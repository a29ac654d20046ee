"""One model's consumer: takes as many records as its engine has room for and commits them in the order they came."""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from contracts.errors import InvalidRequest
from contracts.kafka import client_options, header
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from inference.claims import Claims, Place
from inference.engine import EngineDied
from inference.generation import Assignment, Generator
from inference.lane import Lane
from inference.offsets import OffsetTracker
from inference.outbox import Outbox

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
    ) -> None:
        self.model = model
        self._settings = settings
        self._generator = generator
        self._outbox = outbox
        self._room = room
        self._die = die
        self._lanes = [Lane(Topics.of(settings).work(model, lane), _AHEAD) for lane in LANES]
        self._consumer = _kafka_consumer(model, settings)
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._claims = Claims()
        self._running: set[asyncio.Task[None]] = set()  # in the engine, or being published
        self._in_engine = 0
        self._dealt = asyncio.Event()
        self._stopping = False
        self._finished = asyncio.Event()
        self._committed: dict[TopicPartition, int] = {}
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
        await self._commit()
        await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """What is finished is committed while the partitions are still ours; what runs goes on."""
        for lane in self._lanes:
            lane.clear()
        await self._commit()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._committed.clear()
        for partition in assigned:
            self._trackers.setdefault(partition, OffsetTracker()).assigned()
        self._dealt.set()
        self.joined.set()

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
        while self._in_engine < self._room and len(self._running) < 2 * self._room and not self._stopping:
            record = next((record for lane in self._lanes if (record := lane.pop())), None)
            if record is None:
                return
            self._accept(record)

    def _accept(self, record: ConsumerRecord) -> None:
        partition = TopicPartition(record.topic, record.partition)
        if not self._trackers[partition].deliver(record.offset):
            self._finished.set()  # it may have ended between two assignments: only now can that be committed
            return
        place = Place(partition, record.offset)
        identity = (record.key or b"", header(record.headers, "claim") or b"")
        if self._claims.enter(identity, place):
            task = asyncio.create_task(self._process(record, identity))
            self._running.add(task)
            self._in_engine += 1
            task.add_done_callback(self._over)
        elif self._claims.has_finished(identity):
            self._mark([place])

    async def _process(self, record: ConsumerRecord, identity: tuple[bytes, bytes]) -> None:
        try:
            assignment = Assignment.parse(record)
            completion, body = await self._generator.run(assignment)
        except InvalidRequest as error:
            log.warning("Dead letter.", key=(record.key or b"").decode(errors="replace"), reason=error.message)
            self._leave_engine()
            await self._outbox.dead_letter(record, error.message)
        else:
            self._leave_engine()
            await self._outbox.complete(record, completion, body)
        self._mark(self._claims.finish(identity))

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
            positions = {
                partition: position
                for partition in self._consumer.assignment()
                if (position := self._position(partition)) not in (None, self._committed.get(partition))
            }
            if positions:
                await self._commit_positions(positions)

    def _position(self, partition: TopicPartition) -> int | None:
        tracker = self._trackers.get(partition)
        return tracker.position if tracker else None

    async def _commit_positions(self, positions: dict[TopicPartition, int]) -> None:
        try:
            await self._consumer.commit(positions)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("Commit refused: the partitions moved.", model=self.model, error=repr(error))
        except KafkaError as error:
            log.warning("Commit failed.", model=self.model, error=repr(error))
            self._finished.set()
        else:
            self._committed.update(positions)
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
