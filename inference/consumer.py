"""One model's consumer: takes as many records as its engine has room for and commits them in the order they came."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.completion import Completion, Escalation
from contracts.errors import InvalidRequest
from contracts.instruments import before_scrape, gauges
from contracts.kafka import client_options
from contracts.logs import concerns
from contracts.metrics import POISON
from contracts.outcomes import Outcome
from contracts.poison_limit import PoisonLimit
from contracts.settings import Settings
from contracts.topics import Topics
from inference.claims import Claims
from inference.engine import AttemptsExhausted, EngineDied, EngineStalled
from inference.first_answer import or_first
from inference.generation import Assignment, Generator
from inference.holding import Holding
from inference.lane import Lane, Ticket, open_lanes
from inference.outbox import Outbox
from inference.shadow import Shadows
from inference.solitude import Solitude
from inference.spans import Serving, WorkerSpans
from inference.telling import Telling
from inference.trial import AlreadyEscalated
from inference.turns import Turns

log = structlog.get_logger()
_POLL_MS = 1000
_FETCH_RECORDS = 128
_SPARED = 32  # one place in so many
_SHADOWED = 8  # at most one place in so many has a shadow run in it
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
        self._metrics = generator.metrics
        self._outbox = outbox
        self._spans = WorkerSpans(model, generator.engine_name, Topics.of(settings))
        self._room = room
        self._die = die
        self._solitude = solitude
        solitude.on_over(self._fill)
        generator.orders.on_abort(self._end_waiting)
        self._lanes = open_lanes(model, settings)
        self._turns = Turns(room, settings.worker_batch_share, settings.worker_quiet_seconds, _now)
        self._consumer = _kafka_consumer(model, settings)
        self._holding = Holding(model, self._consumer, settings, room)
        self._claims = Claims()
        most = max(room // _SHADOWED, 1)
        self._shadows = Shadows(generator, outbox, solitude, self._lanes.values(), most)
        self._poison = PoisonLimit.of(settings)
        self._running: dict[asyncio.Task[None], Ticket] = {}  # in the engine, or being published
        self._in_engine: set[asyncio.Task[None]] = set()
        self._tenants: Counter[str] = Counter()  # requests in the engine
        self._dealt = asyncio.Event()
        self._stopping = False
        self.telling = Telling(
            generator, self._lanes, self._turns, self._holding, self._consumer, self._running, room, _now
        )
        self.joined = asyncio.Event()
        before_scrape(f"work on {model}", self._tell)

    async def start(self) -> None:
        """Raises KafkaError when no broker answers."""
        self._consumer.subscribe([lane.topic for lane in self._lanes.values()], listener=self)
        await self._consumer.start()
        self._holding.follow_heartbeats(self._fill)
        # By default aiokafka fetches nothing more from a broker for 100 ms after records came that weren't taken yet:
        # batch work that waits for room would hold up interactive work. With no pause at all the next fetch leaves
        # out the partition whose records are just being taken, and its next record waits for that fetch to end.
        self._consumer._fetcher._prefetch_backoff = _TAKING_SECONDS  # noqa: SLF001 - there is no setting for it

    async def run(self) -> None:
        """Takes work until cancelled. Raises KafkaError when that can't go on."""
        tasks = [asyncio.create_task(self._follow(lane), name=lane.topic) for lane in self._lanes.values()]
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
        self._shadows.end()
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

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return sum(map(len, self._lanes.values()))

    def _tell(self) -> None:
        held = Counter(partition.topic for partition in self._consumer.assignment())
        for lane in self._lanes.values():
            self._metrics.tell_lane(lane, held[lane.topic])
        self._generator.tell(len(self._in_engine), self._room)
        gauges(POISON)["worker"].set(self._poison.ratio)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """What is finished is committed while the partitions are still ours; what runs goes on."""
        for lane in self._lanes.values():
            lane.clear()
        await self._holding.leave()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for lane in self._lanes.values():
            lane.clear()  # what a fetch under the old assignment still brought
        await self._holding.take_over(assigned)
        # Until now nothing has started. What came again while it still ran is in its lane: it joins the run or, when
        # that is given up here, runs anew.
        for task, ticket in list(self._running.items()):
            if self._is_strayed(ticket) and not task.done():
                self._abandon(task, ticket)
        self._dealt.set()
        self.joined.set()
        self._fill()
        self.telling.on_change()

    async def _follow(self, lane: Lane) -> None:
        """Fetches a lane's records ahead of their turn, and starts what there is room for."""
        while True:
            await lane.until_short()
            for record in await self._fetch(lane):
                ticket = Ticket.of(record, lane)
                self.telling.read(record)
                if self._holding.deliver(ticket.place):
                    lane.put(ticket)
            self._fill()
            self.telling.look()

    async def _fetch(self, lane: Lane) -> list[ConsumerRecord]:
        """More records, or none within a poll's time. Raises KafkaError."""
        partitions = [partition for partition in self._consumer.assignment() if partition.topic == lane.topic]
        if not partitions:
            self._dealt.clear()
            await self._dealt.wait()
            return []
        try:
            found = await self._consumer.getmany(*partitions, timeout_ms=_POLL_MS, max_records=_FETCH_RECORDS)
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("Kafka hesitates.", model=self.model, error=repr(error))
            await asyncio.sleep(_POLL_MS / 1000)
            return []
        return [record for records in found.values() for record in records]

    def _fill(self) -> None:
        """Starts what waits, as far as there is room; what still waits then has shadow runs make room for it."""
        self._start_waiting()
        self._shadows.give_way()

    def _start_waiting(self) -> None:
        while len(self._in_engine) < self._room and len(self._running) < 2 * self._room and not self._resting:
            ticket = self._next()
            if ticket is None:
                return
            if not self._start(ticket):
                ticket.lane.charge(ticket.tenant, -ticket.tokens)

    def _next(self) -> Ticket | None:
        """The last places are for interactive work of tenants that have nothing in the engine: else one who comes while
        another fills it would wait for as long as an answer takes."""
        interactive, batch = self._lanes["interactive"], self._lanes["batch"]
        if len(self._in_engine) >= self._room - self._room // _SPARED:
            tenant = interactive.next_tenant
            return None if tenant is None or self._tenants[tenant] else interactive.pop()
        turn = self._turns.next(interactive=len(interactive) > 0, batch=len(batch) > 0)
        return self._lanes[turn].pop() if turn else None

    @property
    def _resting(self) -> bool:
        return self._stopping or self._holding.dealing or self._holding.doubtful or self._solitude.wanted

    def _end_waiting(self, claim: str) -> None:
        """What won't run needn't wait for its turn to end."""
        if self._stopping or self._holding.dealing:
            return
        for lane in self._lanes.values():
            if (ticket := lane.find(claim.encode())) and self._start(ticket):
                lane.charge(ticket.tenant, ticket.tokens)  # what its turn, when it comes, gives back

    def _start(self, ticket: Ticket) -> bool:
        """False when nothing more runs by it: it has finished, or runs already."""
        if not self._holding.start(ticket.place):
            return False
        if self._claims.enter(ticket.identity, ticket.place):
            task = asyncio.create_task(self._process(ticket))
            self._running[task] = ticket
            self._in_engine.add(task)
            self._tenants[ticket.tenant] += 1
            self._turns.start(ticket.lane.name, ticket.tokens)
            self.telling.pace.start(ticket.place, ticket.lane.name, ticket.tokens)
            task.add_done_callback(self._over)
            return True
        if self._claims.has_finished(ticket.identity):
            self._holding.finish([ticket.place])
        return False

    async def _process(self, ticket: Ticket) -> None:
        concerns(ticket.record.key, ticket.record.headers)
        with self._spans.serving(ticket.record, again=self._holding.may_have_begun(ticket.place)) as serving:
            await self._serve(ticket, serving)
        self._holding.finish(self._claims.finish(ticket.identity))

    async def _serve(self, ticket: Ticket, serving: Serving) -> None:
        record = serving.record
        try:
            assignment = Assignment.parse(record, ticket.deadline)
            log.debug("Begins.", model=self.model, lane=ticket.lane.name)
            if ticket.shadow:
                return await self._serve_shadow(assignment, ticket, serving)
            completion, body = await self._attempt(assignment, ticket, serving)
        except AttemptsExhausted as error:
            await self._give_up(assignment, serving, error)
        except AlreadyEscalated:
            self._leave_engine()
        except InvalidRequest as error:
            log.warning("Dead letter.", reason=error.message)
            self._leave_engine()
            await self._outbox.dead_letter(record, error.message)
            self._count(poison=True)
        else:
            self.telling.ended(ticket.place, completion)
            self._leave_engine()
            self._charge(ticket, completion)
            self._metrics.ended(assignment.work, completion, body)
            if assignment.work.stream:
                await self._holding.until_ours()  # else another worker may have gone on with it, in other words
            serving.sending()
            again = self._holding.may_have_begun(ticket.place) or self._holding.spent(ticket.place) > 0
            await self._outbox.complete(serving.leaving, *or_first(assignment.work, completion, body, again=again))
            log.debug("Ended.", outcome=str(completion.outcome), tokens=completion.completion_tokens)
            self._count(poison=False)
            await self._shadows.want(assignment, serving, completion)

    async def _serve_shadow(self, assignment: Assignment, ticket: Ticket, serving: Serving) -> None:
        """It tells nothing of how long requests take, nor of how many fail."""
        completion = await self._shadows.run(assignment, serving, again=self._holding.may_have_begun(ticket.place))
        self.telling.pace.drop(ticket.place)
        self._leave_engine()
        if completion:
            self._metrics.shadowed(assignment.work, completion)
            serving.sending()
            await self._shadows.tell(serving, completion)
        else:
            self._metrics.left_out(assignment.work)

    def _charge(self, ticket: Ticket, completion: Completion | Escalation) -> None:
        """What it really took counts, not what was estimated."""
        more = completion.prompt_tokens + completion.completion_tokens - ticket.tokens
        ticket.lane.charge(ticket.tenant, more)
        self._turns.charge(ticket.lane.name, more)

    def _count(self, *, poison: bool) -> None:
        """What is given up isn't counted: no caller may stop a worker for the others."""
        if self._poison.count(poison=poison):
            self._die(f"{self.model}: {self._poison.sentence}")

    async def _give_up(self, assignment: Assignment, serving: Serving, error: AttemptsExhausted) -> None:
        record = serving.record
        log.error("Given up.", reason=error.message)
        self._leave_engine()
        self._metrics.given_up.inc()
        completion, body = self._generator.give_up(error)
        self.telling.ended(None, completion)
        attempts = self._settings.worker_max_attempts
        ended, body = or_first(assignment.work, completion, body, again=True)
        outcome = Outcome(ended.outcome)
        await self._outbox.dead_letter(record, error.message, attempts=attempts, outcome=outcome)
        serving.sending()
        await self._outbox.complete(serving.leaving, ended, body)

    async def _attempt(
        self, assignment: Assignment, ticket: Ticket, serving: Serving
    ) -> tuple[Completion | Escalation, bytes]:
        """Runs it as its past asks for, and again when it hangs, until its tries are spent. Raises AttemptsExhausted,
        and what the generator raises but for a hang."""
        again = self._holding.may_have_begun(ticket.place)
        spent = self._holding.spent(ticket.place)
        if self._holding.tries(ticket.place):
            self._metrics.retries["died"].inc()
        while spent < self._settings.worker_max_attempts:
            try:
                return await self._try(assignment, ticket, serving, spent, again=again)
            except EngineStalled as error:
                self._metrics.retries["hung"].inc()
                log.warning("A request hung.", attempt=spent + 1, error=error.message)
                await self._holding.mark_hang(ticket.place)
                again, spent = True, max(spent + 1, self._holding.spent(ticket.place))
        raise self._exhausted()

    async def _try(
        self, assignment: Assignment, ticket: Ticket, serving: Serving, spent: int, *, again: bool
    ) -> tuple[Completion | Escalation, bytes]:
        """Once; alone in the process when it is the last time for what may have been part of a crash."""
        suspect = self._holding.tries(ticket.place) > 0
        if suspect and spent == self._settings.worker_max_attempts - 1:
            self._shadows.end()  # else it would wait for them
            async with self._solitude.alone():
                await self._holding.mark_start(ticket.place)
                return await self._run(assignment, ticket, serving, again=again)
        await self._solitude.enter()
        try:
            if suspect:
                await self._holding.mark_start(ticket.place)
            return await self._run(assignment, ticket, serving, again=again)
        finally:
            self._solitude.leave()

    async def _run(
        self, assignment: Assignment, ticket: Ticket, serving: Serving, *, again: bool
    ) -> tuple[Completion | Escalation, bytes]:
        running = self._generator.run(assignment, again=again, others_wait=len(ticket.lane) > 0)
        return await serving.tried(assignment, running)

    def _exhausted(self) -> AttemptsExhausted:
        return AttemptsExhausted(
            f"The request was tried {self._settings.worker_max_attempts} times; each time the engine died or hung."
        )

    def _leave_engine(self) -> None:
        """The next one needn't wait for this one's outcome to be published."""
        if task := asyncio.current_task():
            self._left(task)
        self._fill()

    def _left(self, task: asyncio.Task[None]) -> None:
        if task in self._in_engine:
            self._in_engine.remove(task)
            ticket = self._running[task]
            self.telling.pace.end(ticket.place)
            self._turns.end(ticket.lane.name)
            self._tenants[ticket.tenant] -= 1
            if not self._tenants[ticket.tenant]:
                del self._tenants[ticket.tenant]

    def _is_strayed(self, ticket: Ticket) -> bool:
        """A stream that another worker goes on with. (What isn't streamed may end here as well as there.)"""
        return ticket.stream and self._holding.lost(ticket.place.partition)

    def _abandon(self, task: asyncio.Task[None], ticket: Ticket) -> None:
        self.telling.pace.drop(ticket.place)
        self._left(task)
        del self._running[task]
        self._claims.abandon(ticket.identity)
        task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._left(task)
        self._running.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EngineDied):
            self._die(f"The engine of {self.model} died: {error.message}")
        elif error:
            self._die(f"An outcome of {self.model} could not be published: {error!r}")
        else:
            self._fill()


def _now() -> float:
    return asyncio.get_running_loop().time()


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
