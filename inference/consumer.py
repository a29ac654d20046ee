"""One model's consumer: takes as many records as its engine has room for and commits them in the order they came."""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.completion import Completion
from contracts.errors import InvalidRequest
from contracts.kafka import client_options, header
from contracts.outcomes import Outcome
from contracts.poison_limit import PoisonLimit
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from inference.claims import Claims, Place
from inference.engine import AttemptsExhausted, EngineDied, EngineStalled
from inference.generation import Assignment, Generator
from inference.holding import Holding
from inference.lane import Lane
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


class _Held(NamedTuple):
    """A request that runs."""

    place: Place
    identity: tuple[bytes, bytes]
    stream: bool


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
        self._holding = Holding(model, self._consumer, settings, room)
        self._claims = Claims()
        self._poison = PoisonLimit.of(settings)
        self._running: dict[asyncio.Task[None], _Held] = {}  # in the engine, or being published
        self._in_engine: set[asyncio.Task[None]] = set()
        self._dealt = asyncio.Event()
        self._stopping = False
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
        tasks.append(asyncio.create_task(self._holding.commit_regularly(), name=f"commit {self.model}"))
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
        await self._holding.leave()
        await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """What is finished is committed while the partitions are still ours; what runs goes on."""
        for lane in self._lanes:
            lane.clear()
        await self._holding.leave()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for lane in self._lanes:
            lane.clear()  # what a fetch under the old assignment still brought
        await self._holding.take_over(assigned)
        for task in [task for task, held in self._running.items() if self._is_strayed(held) and not task.done()]:
            self._abandon(task)
        self._dealt.set()
        self.joined.set()
        self._fill()

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
        while len(self._in_engine) < self._room and len(self._running) < 2 * self._room and not self._resting:
            record = next((record for lane in self._lanes if (record := lane.pop())), None)
            if record is None:
                return
            self._accept(record)

    @property
    def _resting(self) -> bool:
        return self._stopping or self._holding.dealing or self._solitude.wanted

    def _accept(self, record: ConsumerRecord) -> None:
        place = Place(TopicPartition(record.topic, record.partition), record.offset)
        if not self._holding.deliver(place):
            return
        identity = (record.key or b"", header(record.headers, "claim") or b"")
        if self._claims.enter(identity, place):
            task = asyncio.create_task(self._process(record, identity, place))
            self._running[task] = _Held(place, identity, header(record.headers, "stream") == b"1")
            self._in_engine.add(task)
            task.add_done_callback(self._over)
        elif self._claims.has_finished(identity):
            self._holding.finish([place])

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
            if assignment.work.stream:
                await self._holding.until_ours()  # else another worker may have gone on with it, in other words
            await self._outbox.complete(record, completion, body)
            self._count(poison=False)
        self._holding.finish(self._claims.finish(identity))

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
        tried = self._holding.tries(place)
        if tried >= self._settings.worker_max_attempts:
            raise self._exhausted()
        if tried == self._settings.worker_max_attempts - 1:
            async with self._solitude.alone():
                await self._holding.mark_start(place)
                return await self._try(assignment, place, tried)
        await self._solitude.enter()
        try:
            if tried:
                await self._holding.mark_start(place)
            return await self._try(assignment, place, tried)
        finally:
            self._solitude.leave()

    async def _try(self, assignment: Assignment, place: Place, tried: int) -> tuple[Completion, bytes]:
        """Again when it hangs, until its tries are spent."""
        again = self._holding.may_have_begun(place)
        for attempt in range(tried + 1, self._settings.worker_max_attempts + 1):
            try:
                return await self._generator.run(assignment, again=again)
            except EngineStalled as error:
                again = True
                log.warning("A request hung.", key=assignment.name, attempt=attempt, error=error.message)
        raise self._exhausted()

    def _exhausted(self) -> AttemptsExhausted:
        return AttemptsExhausted(
            f"The request was tried {self._settings.worker_max_attempts} times; each time the engine died or hung."
        )

    def _leave_engine(self) -> None:
        """The next one needn't wait for this one's outcome to be published."""
        if task := asyncio.current_task():
            self._in_engine.discard(task)
        self._fill()

    def _is_strayed(self, held: "_Held") -> bool:
        """A stream that another worker goes on with. (What isn't streamed may end here as well as there.)"""
        return held.stream and self._holding.lost(held.place.partition)

    def _abandon(self, task: asyncio.Task[None]) -> None:
        held = self._running.pop(task)
        self._in_engine.discard(task)
        self._holding.abandon(self._claims.abandon(held.identity))
        task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._in_engine.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EngineDied):
            self._die(f"The engine of {self.model} died: {error.message}")
        elif error:
            self._die(f"An outcome of {self.model} could not be published: {error!r}")
        else:
            self._fill()


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
