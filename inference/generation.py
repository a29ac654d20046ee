"""One request in a worker: from its work record to its completion."""

from collections.abc import Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.bodies import parse_object
from contracts.cascade import read_cascade
from contracts.catalogue import ModelSpec
from contracts.clock import now_ms
from contracts.completion import Completion, Escalation
from contracts.envelope import Work
from contracts.errors import DeadlineExceeded, EngineFailed, InvalidRequest, MillraceError
from contracts.headers import RawHeaders
from contracts.keys import RequestKey
from contracts.outcomes import Outcome
from contracts.settings import EngineName
from inference.answer import Answer
from inference.chunks import Chunks
from inference.deltas import DeltaStream
from inference.engine import CANCELLED, Engine, EngineDied, EngineOverloaded, EngineStalled, Finish, Job, Load, Step
from inference.engine_time import NO_SHARE, EngineMeter, Seat, Share
from inference.first_answer import carried
from inference.first_token import FirstTokenTime
from inference.frames import Frames
from inference.metrics import ModelMetrics
from inference.orders import Order, Orders
from inference.speed import Speed
from inference.stall import StallWatch
from inference.traits import traits
from inference.trial import AlreadyEscalated, Trial

log = structlog.get_logger()
_LAST_WORD_SECONDS = 1.0  # for an engine that was told to end a job to say what it had
_runs = count(1)  # of this process: both attempts of a request may run in it
_BATCH_PRIORITY = 1000  # the batch lane comes after every priority of the interactive one


@dataclass(frozen=True, slots=True)
class Assignment:
    """A work record, understood. `deadline` is UTC ms."""

    key: RequestKey
    work: Work
    body: dict[str, Any]
    deadline: int | None = None

    @classmethod
    def parse(cls, record: ConsumerRecord, deadline: int | None = None) -> "Assignment":
        """With the deadline of those that name none. Raises InvalidRequest: the record isn't one that route would
        write."""
        key, work = RequestKey.decode(record.key), Work.from_headers(record.headers)
        return cls(key, work, parse_object(record.value or b""), deadline if work.deadline is None else work.deadline)

    @property
    def name(self) -> str:
        return f"{self.key.tenant}:{self.key.idempotency_key}"

    def job(self) -> Job:
        work = self.work
        return Job(
            key=self.name,
            operation=work.operation,
            body=self.body,
            fingerprint=work.fingerprint,
            prompt_estimate=work.counted(work.model) or work.prompt_estimate,
            max_tokens=work.max_tokens,
            stream=work.stream,
            priority=work.priority + (_BATCH_PRIORITY if work.lane == "batch" else 0),
            deadline=self.deadline if work.attempt == 1 else None,  # it has begun in time
            lane=work.lane,
            weighed=bool(work.cascade or self.compared),
        )

    @property
    def compared(self) -> bool:
        """Whether another model's answer is held against this one."""
        return bool(self.work.shadow or self.work.shadow_of)

    @property
    def ordered_as(self) -> str:
        """What orders for it name. None is for a shadow run: its request is over."""
        return f"{self.work.claim}/shadow" if self.work.shadow_of else self.work.claim


@dataclass(slots=True)
class Run:
    """One execution of one request: what its completion says besides the answer. Times are UTC ms."""

    name: str
    started_at: int
    answer: Answer = field(default_factory=Answer)
    first_token_at: int | None = None
    deltas: DeltaStream | None = None
    share: Share = NO_SHARE
    trial: Trial | None = None


class Generator:
    """Runs requests on one model's engine."""

    def __init__(
        self,
        model: str,
        spec: ModelSpec,
        engine: Engine,
        frames: Frames,
        orders: Orders,
        worker: str,
        stall_seconds: float = 600.0,
        meter: EngineMeter | None = None,
    ) -> None:
        self._model = model
        self._spec = spec
        self._engine = engine
        self._frames = frames
        self.orders = orders
        self._worker = worker
        self._stall_seconds = stall_seconds
        self.metrics = ModelMetrics(model, spec, engine.name)
        self._meter = meter or EngineMeter()
        self._first_token = FirstTokenTime()
        self.speed = Speed()

    @property
    def model(self) -> str:
        return self._model

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def model_version(self) -> str:
        """By the catalogue."""
        return self._spec.version

    @property
    def engine_name(self) -> EngineName:
        return self._engine.name

    async def run(
        self, assignment: Assignment, *, again: bool = False, others_wait: bool = False
    ) -> tuple[Completion | Escalation, bytes]:
        """The request's outcome, whatever happens to it; or that another model is to answer. `again`, when it may have
        been run before: then a stream goes on where that left it. `others_wait`, when room for what comes too late
        would be somebody's loss.

        Raises EngineDied, EngineStalled when it hung, AlreadyEscalated, and KafkaError; closes the engine's job when
        cancelled."""
        run = Run(f"{self._worker}.{next(_runs)}", now_ms())
        try:
            with self.orders.of(assignment.ordered_as) as order:
                body = await self._generate(assignment, run, order, again=again, others_wait=others_wait)
        except (EngineDied, EngineStalled, AlreadyEscalated, KafkaError):
            raise
        except DeadlineExceeded as error:
            return self._ended(run, Outcome.EXPIRED, error), error.body()
        except MillraceError as error:
            self._log_failure(error)
            return self._ended(run, _outcome_of(error, run), error), error.body()
        except Exception as unexpected:  # noqa: BLE001 - one request's failure mustn't be its neighbours'
            self._log_failure(unexpected)
            failure = EngineFailed("The engine failed on this request.")
            return self._ended(run, Outcome.FAILED, failure), failure.body()
        if run.trial and run.trial.doubt:
            log.info("A first answer doesn't stand.", why=run.trial.doubt)
            first = carried(run.answer.finish, body)
            return Escalation(escalated=run.trial.doubt, first_answer=first, **self._said(run)), b""
        finish = run.answer.finish
        ended = self._ended(run, Outcome.CANCELLED if finish and finish.reason == CANCELLED else Outcome.SUCCEEDED)
        if assignment.compared and ended.outcome is Outcome.SUCCEEDED:
            ended = ended.model_copy(update=self._traits(run.answer, assignment.body))
        return ended, body

    def tell(self, in_engine: int, room: int) -> None:
        """How full the engine is, at a scrape."""
        self.metrics.tell_engine(self._engine.load() or Load(in_engine), room)

    def give_up(self, error: MillraceError) -> tuple[Completion, bytes]:
        """The outcome of a request that isn't run again."""
        run = Run(f"{self._worker}.{next(_runs)}", now_ms())
        return self._ended(run, Outcome.FAILED, error), error.body()

    async def _generate(
        self, assignment: Assignment, run: Run, order: Order, *, again: bool, others_wait: bool
    ) -> bytes:
        work = assignment.work
        job = assignment.job()
        chunks = Chunks(
            work.operation,
            assignment.key.idempotency_key,
            work.accepted_at // 1000,
            self._model,
            self._engine.name,
        )
        if work.stream:
            if again and work.cascade and await self._frames.readback.escalated(assignment.key.encode(), work):
                raise AlreadyEscalated
            run.deltas = await self._open_deltas(assignment, run, chunks)
            if again:
                job = await self._take_over(assignment, job, run, run.deltas)
            elif work.attempt > 1:
                await run.deltas.take_over()  # from what an earlier run of the first attempt may still send
        if job.weighed and work.cascade:
            run.trial = self._on_trial(assignment, job, run, order)
        if not (run.answer.tokens or order.aborted):
            _check_deadline(job, run.started_at + (self._first_token.likely_most_ms if others_wait else 0))
        if not (run.answer.finish or order.aborted):
            await self._work(job, run, order)
        if not run.answer.finish:
            run.answer.finish = _as_far_as_it_got(job, run.answer)
        return chunks.response(run.answer)

    async def _take_over(self, assignment: Assignment, job: Job, run: Run, deltas: DeltaStream) -> Job:
        """The job as it is left to do: what its client was sent is already in the run's answer."""
        work = assignment.work
        at = await deltas.take_over()
        place = TopicPartition(at.topic, at.partition)
        since = min(work.admitted_at, work.accepted_at)
        published = await self._frames.readback.published(place, at.offset, assignment.key.encode(), work.claim, since)
        answer, finish = published.answer, published.answer.finish
        if answer.characters or answer.extra or not published.unbroken:
            job = replace(job, weighed=False)  # its client has some of it: it stands
        if not (published.unbroken and answer.tokens):
            return job
        if finish:
            run.answer = answer
            answer.finish = replace(finish, prompt_tokens=finish.prompt_tokens or job.prompt_estimate)
            deltas.go_on(published.prefix)
        elif not answer.extra and self._engine.continues(job):
            self.metrics.resumed.inc()
            log.info("A stream goes on.", tokens=answer.tokens)
            run.answer = answer
            deltas.go_on(published.prefix)
            return replace(job, prefix=published.prefix)
        return job

    async def _work(self, job: Job, run: Run, order: Order) -> None:
        seat = self._meter.enter(job.prompt_estimate)
        try:
            await self._collect(job, run, order, seat)
        finally:
            run.share = self._meter.leave(seat)
            if run.deltas:
                self._frames.coalescer.forget(run.deltas)

    async def _collect(self, job: Job, run: Run, order: Order, seat: Seat) -> None:
        watch = StallWatch(self._stall_seconds)
        try:
            async with watch, aclosing(self._engine.generate(job)) as steps, run.trial or nullcontext():
                with order.obeyed_by(partial(self._abort, job, watch)):
                    async for step in steps:
                        self._meter.add(seat, step)
                        run.answer.add(step)
                        self.metrics.generated[job.lane] += step.tokens
                        if run.first_token_at is None and step.tokens:
                            run.first_token_at = _first_token_at(run, step)
                            self._first_token.add(run.first_token_at - run.started_at)
                        watch.pause()  # Kafka may take its time
                        if not await self._take(run, order, step):
                            return
                        watch.stepped()
                        self.speed.add(step)
        except TimeoutError as error:
            if not watch.expired:
                raise
            if order.aborted:
                return
            raise EngineStalled(f"The engine gave nothing for {self._stall_seconds:g} s.") from error
        if run.answer.finish is None and not order.aborted:
            raise EngineFailed("The engine stopped in the middle of the answer.")

    async def _take(self, run: Run, order: Order, step: Step) -> bool:
        """Sends what may be sent. False when the answer needn't go on, since it doesn't stand."""
        if run.trial:
            return await run.trial.take(step)
        if run.deltas and not (order.aborted or order.drained):
            await self._frames.coalescer.add(run.deltas, step)
        return True

    def _on_trial(self, assignment: Assignment, job: Job, run: Run, order: Order) -> Trial:
        """For a first answer that may not stand."""
        deltas = run.deltas

        async def emit(step: Step) -> None:
            if deltas and not (order.aborted or order.drained):
                await self._frames.coalescer.add(deltas, step)

        cascade = read_cascade(assignment.work.cascade)
        return Trial(cascade, job, run.answer, now_ms, emit if deltas else None)

    def _abort(self, job: Job, watch: StallWatch) -> None:
        watch.cut(_LAST_WORD_SECONDS if self._engine.cancel(job) else 0.0)

    async def _open_deltas(self, assignment: Assignment, run: Run, chunks: Chunks) -> DeltaStream:
        work = assignment.work
        headers = [
            ("kind", b"delta"),
            ("run", run.name.encode()),
            ("model", self._model.encode()),
            ("claim", work.claim.encode()),
            *_fallback(work),
        ]
        address = await self._frames.addresses.resolve(work.reply_to)
        opening = [("rate-limits", work.rate_limits.encode())] if work.rate_limits else []
        if work.traceparent:
            opening.append(("traceparent", work.traceparent.encode()))
        if work.escalated:
            opening.append(("escalated", work.escalated.encode()))
        return DeltaStream(self._frames.producer, address, assignment.key.encode(), chunks, headers, opening)

    def _ended(self, run: Run, outcome: Outcome, error: MillraceError | None = None) -> Completion:
        retry_after = error.retry_after if error else None
        return Completion(
            outcome=outcome,
            status=error.status if error else 200,
            retry_after_ms=None if retry_after is None else round(retry_after * 1000),
            **self._said(run),
        )

    def _said(self, run: Run) -> dict[str, Any]:
        """Fields of a contracts.completion.Execution."""
        finish = run.answer.finish
        return {
            "run": run.name,
            "worker": self._worker,
            "engine": self._engine.name,
            "model_version": (finish.model_version if finish else "") or self._spec.version,
            "prompt_tokens": finish.prompt_tokens if finish else 0,
            "cached_tokens": finish.cached_tokens if finish else 0,
            "completion_tokens": finish.completion_tokens if finish else run.answer.tokens,
            "started_at": run.started_at,
            "first_token_at": run.first_token_at,
            "finished_at": now_ms(),
            "engine_us": run.share.engine_us,
            "gpu_nano": run.share.gpu_nano,
            "finish_reason": finish.reason if finish else "",
            "sequence": run.deltas.sequence if run.deltas else 0,
            "position": run.deltas.position if run.deltas else 0,
        }

    def _traits(self, answer: Answer, body: Mapping[str, Any]) -> dict[str, Any]:
        """An answer that nothing can be said of is one all the same."""
        try:
            return traits(answer, body).model_dump()
        except Exception as error:  # whatever a caller asked for: it mustn't cost the answer, nor the worker
            log.warning("An answer can't be compared.", model=self._model, exc_info=error)
            return {}

    def _log_failure(self, error: Exception) -> None:
        expected = isinstance(error, MillraceError)
        log.warning(
            "A request failed.",
            model=self._model,
            error=error.message if isinstance(error, MillraceError) else type(error).__name__,
            exc_info=None if expected else error,
        )


def _fallback(work: Work) -> RawHeaders:
    """That it was meant for another model; most are not."""
    if not work.fallback_from:
        return []
    return [("fallback-from", work.fallback_from.encode()), ("fallback-reason", work.fallback_reason.encode())]


def _outcome_of(error: MillraceError, run: Run) -> Outcome:
    """What never ran leaves its key free: an overload, and a request that the engine finds unfit before any token."""
    unfit = isinstance(error, InvalidRequest) and not run.answer.tokens
    return Outcome.REJECTED if unfit or isinstance(error, EngineOverloaded) else Outcome.FAILED


def _as_far_as_it_got(job: Job, answer: Answer) -> Finish:
    """Of a run that was ended before its end: what was produced counts, and the prompt of which something was."""
    return Finish(CANCELLED, job.prompt_estimate if answer.tokens else 0, answer.tokens)


def _check_deadline(job: Job, begins_at: float) -> None:
    """Before it touches the engine. Raises DeadlineExceeded."""
    if job.deadline is not None and begins_at > job.deadline:
        raise DeadlineExceeded("The request's deadline passed before it could start.")


def _first_token_at(run: Run, step: Step) -> int:
    """An engine that gives the answer as one step says itself when the first token was there."""
    if step.finish and step.finish.first_token_us is not None:
        return run.started_at + step.finish.first_token_us // 1000
    return now_ms()
