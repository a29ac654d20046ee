"""The partitions that a worker holds: how far it is in each, what Kafka knows of that, what earlier holders left."""

import asyncio
import secrets
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, KafkaTimeoutError

from contracts.settings import Settings
from inference.attempts import Trail
from inference.claims import Place
from inference.offsets import OffsetTracker

log = structlog.get_logger()
_RETRY_SECONDS = 0.1
_COMMIT_SECONDS = 10.0  # aiokafka may look for its coordinator for ever
_PATIENCE_SECONDS = 60.0  # without any commit that Kafka takes


class Holding:
    """Of one model's consumer. `room` is the most that it runs at once."""

    def __init__(self, model: str, consumer: AIOKafkaConsumer, settings: Settings, room: int) -> None:
        self._ahead = settings.worker_read_ahead
        self._most_attempts = settings.worker_max_attempts
        self._model = model
        self._consumer = consumer
        self._room = room
        self._commit_seconds = settings.worker_commit_interval_ms / 1000
        self._proof_seconds = settings.worker_session_timeout_ms / 2000
        self._name = secrets.token_hex(4)
        self._clock = asyncio.get_running_loop().time
        self._trackers: dict[TopicPartition, OffsetTracker] = {}
        self._trails: dict[TopicPartition, Trail] = {}
        self._floors: dict[TopicPartition, int] = {}  # positions at the time of the assignment
        self._kept: set[TopicPartition] = set()  # held by nobody else since the last assignment
        self._held = False  # what the commits' texts say
        self._dealt = asyncio.Event()
        self._finished = asyncio.Event()
        self._committed: dict[TopicPartition, object] = {}
        self._committing = asyncio.Lock()
        self._generation: int | None = None  # of the group, at the time of the assignment
        self._proved_at = 0.0  # when a commit was sent that Kafka took
        self._beat_at = 0.0  # when a heartbeat was sent that the group took

    @property
    def dealing(self) -> bool:
        """From one assignment to the next nothing may start."""
        return not self._dealt.is_set()

    @property
    def doubtful(self) -> bool:
        """Whether the group may think us dead: who wakes from a long sleep must not begin what others have by now."""
        return self._clock() - max(self._proved_at, self._beat_at) > self._proof_seconds

    def follow_heartbeats(self, on_beat: Callable[[], None]) -> None:
        """Of the started consumer: each one that is taken ends the doubt. Nothing public tells of them."""
        coordinator = self._consumer._coordinator  # noqa: SLF001
        beat = coordinator._do_heartbeat  # noqa: SLF001

        async def do_heartbeat() -> bool:
            sent_at = self._clock()
            taken: bool = await beat()
            if taken:
                self._beat_at = sent_at
                on_beat()
            return taken

        coordinator._do_heartbeat = do_heartbeat  # noqa: SLF001

    async def take_over(self, assigned: Iterable[TopicPartition]) -> None:
        """These are ours now: learns what earlier workers died on, and says that from now on they are held."""
        partitions = list(assigned)
        self._committed.clear()
        self._trails.clear()
        self._floors.clear()
        for partition in partitions:
            self._trackers.setdefault(partition, OffsetTracker()).assigned()  # at once: records may come from now on
        self._held = True
        self._generation = self._group_generation
        try:
            await self._read_trails(partitions)
        except KafkaError as error:
            log.warning("What earlier workers died on is unknown.", model=self._model, error=repr(error))
        self._kept = {partition for partition, trail in self._trails.items() if trail.holder == self._name}
        await self.commit()
        self._dealt.set()

    async def leave(self) -> None:
        """What is finished is committed, and that this worker lives: what it runs is nobody's crash."""
        self._dealt.clear()
        self._held = False
        await self.commit()

    def lost(self, partition: TopicPartition) -> bool:
        """Whether somebody else holds it, or may have held it since the assignment before."""
        return partition not in self._kept

    def deliver(self, place: Place) -> bool:
        """A record has come. False when it has finished already."""
        if self._trackers[place.partition].deliver(place.offset):
            return True
        self._finished.set()  # it may have ended between two assignments: only now can that be committed
        return False

    def start(self, place: Place) -> bool:
        """What was delivered runs now; False when it has finished meanwhile, here or elsewhere."""
        return self._trackers[place.partition].start(place.offset)

    def finish(self, places: Iterable[Place]) -> None:
        for place in places:
            self._trackers[place.partition].finish(place.offset)
            if trail := self._trails.get(place.partition):
                trail.finish(place.offset)
        self._finished.set()

    def position(self, partition: TopicPartition) -> int:
        """The offset below which everything is finished."""
        return self._position(partition) or 0

    def read_to(self, partition: TopicPartition) -> int:
        """One past the last record that has come, under the present assignment."""
        tracker = self._trackers.get(partition)
        read = tracker.read_to if tracker else None
        return self._floors.get(partition, 0) if read is None else read

    def tries(self, place: Place) -> int:
        """Crashes that it may have caused."""
        trail = self._trails.get(place.partition)
        return trail.tries(place.offset) if trail else 0

    def spent(self, place: Place) -> int:
        """Tries that it has behind it, in whichever worker."""
        trail = self._trails.get(place.partition)
        return trail.spent(place.offset, self._most_attempts) if trail else 0

    def may_have_begun(self, place: Place) -> bool:
        """Before it came to us."""
        trail = self._trails.get(place.partition)
        return trail.may_have_begun(place.offset) if trail else True

    async def mark_start(self, place: Place) -> None:
        """Returns when Kafka knows that it runs: if this worker dies now, that counts."""
        if trail := self._trails.get(place.partition):
            trail.start(place.offset)
            await self.commit()

    async def mark_hang(self, place: Place) -> None:
        """Returns when Kafka knows that one more try is over."""
        if trail := self._trails.get(place.partition):
            trail.hang(place.offset)
            await self.commit()

    async def until_ours(self) -> None:
        """Returns when nobody else can have been given what we hold: Kafka has just taken a commit from us, within less
        than the silence after which it gives a worker's partitions away. Raises KafkaTimeoutError."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self.dealing or self._clock() - self._proved_at > self._proof_seconds:
                    await self._dealt.wait()
                    if not await self.commit(anyway=True):
                        await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError:
            raise KafkaTimeoutError("No commit was taken.") from None

    async def commit_regularly(self) -> None:
        while True:
            await self._finished.wait()
            self._finished.clear()
            await self.commit()
            await asyncio.sleep(self._commit_seconds)

    async def commit(self, *, anyway: bool = False) -> bool:
        """Positions that moved, of partitions that are ours; `anyway`, also those that didn't. Whether Kafka took them:
        a commit that fails is made again with the next one."""
        async with self._committing:
            if self._generation != self._group_generation:
                return False  # the next assignment is made, and Kafka would take this beside its owner's
            positions: dict[TopicPartition, int] = {}
            states: dict[TopicPartition, object] = {}
            for partition in self._consumer.assignment():
                position = self._position(partition)
                trail = self._trails.get(partition)
                state = (position, self._held, trail and trail.state, self._done(partition))
                if position is not None and (anyway or state != self._committed.get(partition)):
                    positions[partition], states[partition] = position, state
            return bool(positions) and await self._commit_positions(positions, states)

    @property
    def generation(self) -> int:
        """Of the group, as of the present assignment; -1 before the first."""
        return -1 if self._generation is None else self._generation

    @property
    def _group_generation(self) -> int:
        """What aiokafka commits with: that of the next assignment as soon as it is made, before it is told here."""
        generation: int = self._consumer._coordinator.generation  # noqa: SLF001
        return generation

    async def _read_trails(self, assigned: list[TopicPartition]) -> None:
        # The public `committed()` leaves out the text that was committed with the offset.
        found = await self._consumer._coordinator.fetch_committed_offsets(assigned)  # noqa: SLF001
        starts = await self._consumer.beginning_offsets(assigned)
        ends = await self._consumer.end_offsets(assigned)
        for partition in assigned:
            kept = found.get(partition)
            position = kept.offset if kept and kept.offset >= 0 else starts[partition]
            text = kept.metadata if kept else ""
            trail = Trail.take_over(text, position, ends[partition], self._room, self._ahead)
            if trail.died:
                log.warning("The worker before died.", topic=partition.topic, partition=partition.partition)
            self._floors[partition], self._trails[partition] = position, trail
            self._trackers[partition].pass_over(trail.done)

    def _position(self, partition: TopicPartition) -> int | None:
        tracker = self._trackers.get(partition)
        position = tracker.position if tracker else None
        return self._floors.get(partition) if position is None else position

    def _text(self, partition: TopicPartition, position: int) -> str:
        """What the next worker must know if this one dies."""
        trail = self._trails.get(partition) or Trail()
        tracker = self._trackers[partition]
        return trail.text(position, tracker.begun, held=self._held, by=self._name, done=tracker.done)

    def _done(self, partition: TopicPartition) -> int:
        tracker = self._trackers.get(partition)
        return len(tracker.done) if tracker else 0

    async def _commit_positions(
        self, positions: dict[TopicPartition, int], states: dict[TopicPartition, object]
    ) -> bool:
        sent_at = self._clock()
        try:
            async with asyncio.timeout(_COMMIT_SECONDS):
                await self._consumer.commit({p: (offset, self._text(p, offset)) for p, offset in positions.items()})
        except (CommitFailedError, IllegalStateError) as error:
            log.info("Commit refused: the partitions moved.", model=self._model, error=repr(error))
        except (KafkaError, TimeoutError) as error:
            log.warning("Commit failed.", model=self._model, error=repr(error))
            self._finished.set()
        else:
            self._proved_at = sent_at
            self._committed.update(states)
            for partition, position in positions.items():
                self._trackers[partition].committed(position)
            return True
        return False
