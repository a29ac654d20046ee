"""What a worker asks of an engine, and which engines there are.

An engine serves one model and batches by itself: the worker starts as many generations as there is room for.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from contracts.catalogue import ModelSpec
from contracts.envelope import Lane, Operation
from contracts.errors import InvalidRequest, MillraceError
from contracts.settings import EngineName, Settings


@dataclass(frozen=True, slots=True)
class Prefix:
    """How an answer begins: what an earlier run of the request has published, and its client therefore has."""

    text: str
    tokens: int
    token_ids: tuple[int, ...] | None = None  # where its engine told all of them


@dataclass(frozen=True, slots=True)
class Job:
    """One request, as an engine sees it."""

    key: str  # tenant:idempotency_key, for logs
    operation: Operation
    body: dict[str, Any]  # the client's, parsed
    fingerprint: str  # of that body, whatever its key order and white space
    prompt_estimate: int  # tokens, for engines without a tokenizer
    max_tokens: int | None  # the caller's cap on output
    stream: bool  # when false, the engine may give the whole answer as one step
    priority: int = 0  # lower first
    deadline: int | None = None  # UTC ms; no try begins after it
    prefix: Prefix | None = None  # go on after this; only for an engine that `continues` the job
    lane: Lane = "interactive"  # for counting
    weighed: bool = False  # tell how likely each token was, where the engine can: for us, not for the client


CANCELLED = "cancelled"  # finish_reason of an answer that was ended before its end


@dataclass(frozen=True, slots=True)
class Finish:
    """How an answer ended, and what it took. Counts are tokens; a prefix is part of the answer, not of the prompt."""

    reason: str  # OpenAI's finish_reason, or CANCELLED
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # of the prompt, found in the prefix cache
    model_version: str = ""  # where the engine knows better than the catalogue
    first_token_us: int | None = None  # since the start, where no step of its own told


@dataclass(frozen=True, slots=True)
class Step:
    """What came since the step before. The last one, and only it, has `finish`."""

    text: str
    tokens: int
    finish: Finish | None = None
    extra: dict[str, Any] | None = None  # other fields of OpenAI's delta: tool_calls, refusal, …
    logprobs: dict[str, Any] | None = None  # OpenAI's `logprobs` of a choice
    token_ids: Sequence[
        int
    ] = ()  # of `tokens` tokens, where the engine knows them: so another worker can go on exactly
    fresh_tokens: int | None = None  # of the prompt, computed and not from the prefix cache; where known before the end
    token_logprobs: Sequence[float] = ()  # natural ones, of a job that is weighed


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine does at this moment."""

    running: int  # requests in its batch
    waiting: int = 0  # that it has, and aren't
    kv_usage: float | None = None  # share of its KV cache, where it tells


class Engine(Protocol):
    """Serves one model. `capacity` is the most jobs that it takes at once; None: no limit of its own."""

    name: EngineName
    capacity: int | None

    async def start(self) -> None:
        """Returns when it can serve. Raises MillraceError with one sentence for the operator."""

    async def close(self) -> None:
        """Frees what it holds; jobs that still run fail."""

    def continues(self, job: Job) -> bool:
        """Whether it can go on after a prefix with this job."""

    def cancel(self, job: Job) -> bool:
        """Ends a job that runs and frees its place at once. True when its iterator will soon give a last step, with
        what was produced so far and CANCELLED; false when there is nothing more to hear, and closing it is enough.
        Where no token was produced, no prompt is counted either."""

    def load(self) -> Load | None:
        """None when it doesn't tell."""

    def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Closing the iterator aborts the job and frees its place.

        Raises InvalidRequest (the caller's fault), EngineOverloaded (not run; worth another try), any other
        MillraceError (failed), EngineDied (no job can go on).
        """


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class EngineOverloaded(MillraceError):  # noqa: N818
    """It did not run, and may later: the key stays free."""

    status, type, code = 503, "server_error", "engine_overloaded"


class EngineDied(MillraceError):  # noqa: N818
    """Every job in it is lost. The worker exits, and its uncommitted work is taken again."""

    status, type, code = 500, "server_error", "engine_died"


class EngineStalled(MillraceError):  # noqa: N818
    """It gave no sign of life for too long and was aborted: worth another try."""

    status, type, code = 500, "server_error", "engine_stalled"


class AttemptsExhausted(MillraceError):  # noqa: N818
    """Each try killed its worker or hung."""

    status, type, code = 500, "server_error", "attempts_exhausted"


_ENGINES: dict[EngineName, str] = {
    "synthetic": "inference.engines.synthetic:SyntheticEngine",
    "openai": "inference.engines.openai:OpenAIEngine",
    "vllm": "inference.engines.vllm:VllmEngine",
}


def open_engine(model: str, spec: ModelSpec, settings: Settings) -> Engine:
    """The engine that serves `model`, not started yet; only its own module is imported."""
    module, _, name = _ENGINES[spec.engine or settings.worker_engine].partition(":")
    engine: Engine = getattr(import_module(module), name)(model, spec, settings)
    return engine


def check_context(prompt_tokens: int, max_tokens: int | None, context_tokens: int) -> int:
    """Output tokens for which there is space beside the prompt. Raises ContextLengthExceeded."""
    space = context_tokens - prompt_tokens
    if space < 1 or (max_tokens is not None and max_tokens > space):
        asked = f" and asks for {max_tokens} more" if max_tokens else ""
        raise ContextLengthExceeded(
            f"This model's context holds {context_tokens} tokens; the request has {prompt_tokens}{asked}. "
            "Shorten the prompt or lower max_tokens.",
            param="messages",
        )
    return space
