"""A worker's spans of a request: how long it waited for the engine, each try in it, and the sending of its outcome.

The wait ends, and is exported, when the engine begins: whose worker is killed after that still shows in the trace that
it had been begun there. All that lies under a span that hasn't ended yet is exported together with it, so that nothing
is left without its parent.
"""

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from aiokafka import ConsumerRecord

from contracts.completion import Completion, Escalation
from contracts.kafka_spans import process_span, send_span
from contracts.outcomes import Outcome
from contracts.settings import EngineName
from contracts.topics import Topics
from contracts.tracing import Kind, Span, TraceContext, Tracer, tracer
from inference.generation import Assignment

Ran = tuple[Completion | Escalation, bytes]
_REMOTE: frozenset[EngineName] = frozenset({"openai"})  # engines that run elsewhere


class Serving:
    """One request, from its record to its outcome; this one knows no traces. `record` is what to serve, and `leaving`
    what its outcome is published from: they differ in their trace context."""

    def __init__(self, record: ConsumerRecord) -> None:
        self.record = self.leaving = record

    async def tried(self, assignment: Assignment, running: Awaitable[Ran]) -> Ran:  # noqa: ARG002
        """Awaits one try in the engine."""
        return await running

    def sending(self) -> None:
        """Its outcome is about to be published."""

    def over(self, error: str = "") -> None:
        """It has been, unless there was an error."""


class TracedServing(Serving):
    def __init__(self, spans: "WorkerSpans", record: ConsumerRecord, span: Span) -> None:
        self._spans = spans
        self._span = span
        self._tries: list[tuple[Span, int]] = []
        self._send = send_span(spans.tracer, spans.topics.completions, record.key, span.context)
        self._sent = False
        self.record = replace(record, headers=span.context.put_into([*record.headers]))
        self.leaving = replace(record, headers=self._send.context.put_into([*record.headers]))

    async def tried(self, assignment: Assignment, running: Awaitable[Ran]) -> Ran:
        span = self._spans.generation(assignment, self._span.context)
        try:
            completion, body = await running
        except BaseException as error:
            span.error = type(error).__name__
            self._tries.append((span, time.time_ns()))
            raise
        if completion.outcome is not Outcome.EXPIRED:  # then it never ran
            _answered(span, assignment, completion)
            self._tries.append((span, time.time_ns()))
        return completion, body

    def sending(self) -> None:
        self._sent = True
        self._send.start_ns = time.time_ns()

    def over(self, error: str = "") -> None:
        using, at_ns = self._spans.tracer, time.time_ns()
        for span, ended_ns in self._tries:
            using.end(span, ended_ns)
        if self._sent and not error:
            using.end(self._send, at_ns)
        self._span.error = error
        using.end(self._span, at_ns)


class WorkerSpans:
    """Of one model's consumer."""

    def __init__(self, model: str, engine: EngineName, topics: Topics) -> None:
        self._using = tracer()
        self._model = model
        self._engine = engine
        self.topics = topics

    @property
    def tracer(self) -> Tracer:
        assert self._using is not None, "asked only while traces are on"
        return self._using

    @contextmanager
    def serving(self, record: ConsumerRecord, *, again: bool) -> Iterator[Serving]:
        """`again`: it may have been begun before."""
        serving = self._begin(record, again=again)
        try:
            yield serving
        except BaseException as error:
            serving.over(type(error).__name__)
            raise
        serving.over()

    def _begin(self, record: ConsumerRecord, *, again: bool) -> Serving:
        parent = TraceContext.of(record.headers) if self._using else None
        if parent is None:
            return Serving(record)
        group = self.topics.worker_group(self._model)
        span = process_span(self.tracer, "process", record, group, parent)
        span.attributes["millrace.redelivered"] = again
        waiting = self.tracer.begin(f"queue {record.topic}", "internal", parent, at_ns=record.timestamp * 1_000_000)
        waiting.attributes = {"millrace.model": self._model, "millrace.redelivered": again}
        self.tracer.end(waiting, span.start_ns)
        return TracedServing(self, record, span)

    def generation(self, assignment: Assignment, parent: TraceContext) -> Span:
        """By the semantic conventions for generative AI: a call of a model."""
        work, body = assignment.work, assignment.body
        kind: Kind = "client" if self._engine in _REMOTE else "internal"
        span = self.tracer.begin(f"{work.operation} {self._model}", kind, parent)
        span.attributes = {
            "gen_ai.operation.name": work.operation,
            "gen_ai.provider.name": self._engine,
            "gen_ai.request.model": self._model,
            "gen_ai.request.stream": work.stream,
            "millrace.requested_model": work.requested_model,
        }
        if work.shadow_of:
            span.attributes["millrace.shadow_of"] = work.shadow_of
        if work.max_tokens is not None:
            span.attributes["gen_ai.request.max_tokens"] = work.max_tokens
        for name, kinds in _NUMBERS.items():
            if isinstance(value := body.get(name), kinds) and not isinstance(value, bool):
                span.attributes[f"gen_ai.request.{name}"] = kinds[0](value)
        return span


_NUMBERS: dict[str, tuple[type[float], ...]] = {
    "temperature": (float, int),
    "top_p": (float, int),
    "frequency_penalty": (float, int),
    "presence_penalty": (float, int),
    "seed": (int,),
}


def _answered(span: Span, assignment: Assignment, completion: Completion | Escalation) -> None:
    prefix = "chatcmpl-" if assignment.work.operation == "chat" else "cmpl-"
    span.attributes |= {
        "gen_ai.response.id": prefix + assignment.key.idempotency_key,
        "gen_ai.response.model": assignment.work.model,
        "gen_ai.usage.input_tokens": completion.prompt_tokens,
        "gen_ai.usage.output_tokens": completion.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": completion.cached_tokens,
        "millrace.model_version": completion.model_version,
        "millrace.outcome": str(completion.outcome),
        "millrace.run": completion.run,
        "millrace.engine_ms": completion.engine_us // 1000,
    }
    if completion.finish_reason:
        span.attributes["gen_ai.response.finish_reasons"] = [completion.finish_reason]
    if completion.first_token_at and completion.started_at is not None:
        took_ms = max(0, completion.first_token_at - completion.started_at)
        span.events = [("gen_ai.first_token", span.start_ns + took_ms * 1_000_000)]
        span.attributes["gen_ai.response.time_to_first_chunk"] = took_ms / 1000  # seconds
    if isinstance(completion, Escalation):
        span.attributes["millrace.escalated"] = completion.escalated
    elif not completion.outcome.answered:
        span.error = completion.outcome.value
