"""The openai engine: any server that speaks OpenAI's API (vllm serve, TGI, SGLang, llama.cpp, Ollama, OpenAI itself).

The upstream is always streamed from, so that closing the connection aborts its work. It is asked again, with back-off,
only while no token has come.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import orjson
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, stop_any

from contracts.catalogue import ModelSpec
from contracts.envelope import Operation
from contracts.errors import InvalidRequest, UpstreamFailed
from contracts.settings import EngineName, Settings
from inference.engine import Finish, Job, Load, Prefix, Step
from inference.engines.openai_errors import TooLate, TryAgain, explain, refuse, wait_before_retry
from inference.engines.sse import sse_data

log = structlog.get_logger()
Chunk = dict[str, Any]  # one chunk of an OpenAI stream

_PATHS = {"chat": "chat/completions", "text_completion": "completions"}
_LOGPROBS: dict[Operation, dict[str, Any]] = {"chat": {"logprobs": True}, "text_completion": {"logprobs": 1}}
_CONNECT_SECONDS = 10.0
_OURS = ("model", "stream", "stream_options", "metadata")  # set here, or meant for Millrace's ledger


class OpenAIEngine:
    name: EngineName = "openai"
    capacity: int | None = None

    def __init__(self, model: str, spec: ModelSpec, settings: Settings) -> None:
        self._source = spec.source or model
        self._attempts = settings.openai_attempts
        self._continues = settings.openai_continues
        self._tells_logprobs = True  # until it refuses them
        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
        self._client = httpx.AsyncClient(
            base_url=settings.openai_base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.openai_timeout_seconds, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.worker_max_in_flight),
        )

    async def start(self) -> None:
        """The upstream may come up later: what fails until then is retried, then failed."""

    async def close(self) -> None:
        await self._client.aclose()

    def load(self) -> Load | None:
        return None

    def continues(self, job: Job) -> bool:
        """Where the operator says that the upstream can; not within a grammar, nor when it parses tool calls."""
        plain = (job.body.get("response_format") or {}).get("type", "text") == "text"
        return self._continues and plain and not job.body.get("tools")

    def cancel(self, job: Job) -> bool:  # noqa: ARG002
        return False

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        if job.prefix and job.max_tokens and job.prefix.tokens >= job.max_tokens:
            yield Step("", 0, Finish("length", job.prompt_estimate, job.prefix.tokens))
            return
        async with self._open(job) as chunks:
            reading = _Reading(job, self._source)
            async for chunk in chunks:
                if step := reading.step(chunk):
                    yield step
            yield reading.last()

    @asynccontextmanager
    async def _open(self, job: Job) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The upstream's chunks, once there is a token among them. Retries until then."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(TryAgain),
            stop=stop_any(stop_after_attempt(self._attempts), TooLate(job.deadline)),
            wait=wait_before_retry,
            retry_error_callback=refuse,
        )
        stream: _Stream = await attempts(self._attempt, job)
        try:
            yield stream.all()
        except (httpx.TransportError, TryAgain) as error:
            raise UpstreamFailed("The upstream broke off in the middle of its answer.") from error
        finally:
            await stream.close()

    async def _attempt(self, job: Job) -> "_Stream":
        """Raises TryAgain, or what the upstream's refusal means. Not every upstream has log-probabilities."""
        if not (job.weighed and self._tells_logprobs and not wants_logprobs(job)):
            return await self._ask(job, self._body(job))
        try:
            return await self._ask(job, self._body(job) | _LOGPROBS[job.operation])
        except InvalidRequest:
            stream = await self._ask(job, self._body(job))
            self._tells_logprobs = False
            log.warning("The upstream gives no log-probabilities: answers are weighed without.", model=self._source)
            return stream

    async def _ask(self, job: Job, body: dict[str, Any]) -> "_Stream":
        request = self._client.build_request("POST", _PATHS[job.operation], json=body)
        try:
            stream = _Stream(await self._client.send(request, stream=True))
        except httpx.TransportError as error:
            raise TryAgain("The upstream can't be reached.") from error
        try:
            await stream.begin()
        except httpx.TransportError as error:
            await stream.close()
            raise TryAgain("The upstream broke off before its first token.") from error
        except BaseException:
            await stream.close()
            raise
        return stream

    def _body(self, job: Job) -> dict[str, Any]:
        theirs = {name: value for name, value in job.body.items() if name not in _OURS}
        options = (job.body.get("stream_options") or {}) | {"include_usage": True}
        if self._continues and job.stream:
            options["continuous_usage_stats"] = True  # so that each frame tells its tokens exactly
        if job.prefix:
            theirs |= _rest_of(job, job.prefix)
        return theirs | {"model": self._source, "stream": True, "stream_options": options}


def _rest_of(job: Job, prefix: Prefix) -> dict[str, Any]:
    """Fields that ask for what follows the prefix. Source: vLLM's and SGLang's "extra parameters" of both endpoints."""
    fields: dict[str, Any] = {}
    if job.operation == "chat":
        begun = {"role": "assistant", "content": prefix.text}
        fields["messages"] = [*job.body["messages"], begun]
        fields |= {"add_generation_prompt": False, "continue_final_message": True}
    else:
        fields["prompt"] = job.body["prompt"] + prefix.text
    for name in ("max_tokens", "max_completion_tokens"):
        if job.body.get(name):
            fields[name] = job.body[name] - prefix.tokens
    return fields


class _Stream:
    """One response of the upstream."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._rest = _chunks(response)
        self._begun: list[Chunk] = []

    async def begin(self) -> None:
        """Reads up to the first token. Raises what a refusal means, and TransportError."""
        response = self._response
        if response.status_code != httpx.codes.OK:
            raise explain(response.status_code, response.headers, await response.aread())
        async for chunk in self._rest:
            self._begun.append(chunk)
            if _has_token(chunk):
                return

    async def all(self) -> AsyncIterator[Chunk]:
        for chunk in self._begun:
            yield chunk
        async for chunk in self._rest:
            yield chunk

    async def close(self) -> None:
        """An answer that isn't at its end is aborted: the connection is closed under it."""
        await self._rest.aclose()
        await self._response.aclose()


async def _chunks(response: httpx.Response) -> AsyncGenerator[Chunk, None]:
    """Raises what an error among the chunks says, and TransportError when they end without `[DONE]`."""
    done = False
    async with aclosing(sse_data(response.aiter_bytes())) as events:
        async for data in events:
            done = done or data == b"[DONE]"
            if done:
                continue  # to the end of the body, so that the connection can serve the next request
            chunk = orjson.loads(data)
            if error := chunk.get("error"):
                code = error.get("code") if isinstance(error, dict) else None
                raise explain(code if isinstance(code, int) else httpx.codes.BAD_GATEWAY, {}, data)
            yield chunk
    if not done:
        raise httpx.RemoteProtocolError("no [DONE]")


def wants_logprobs(job: Job) -> bool:
    """Whether its client is shown them. A text completion asks for none of the rivals by 0."""
    asked = job.body.get("logprobs")
    return bool(asked) if job.operation == "chat" else asked is not None


def _token_logprobs(logprobs: dict[str, Any]) -> list[float]:
    """From a choice's `logprobs`, of either operation."""
    found = logprobs.get("token_logprobs") or [token.get("logprob") for token in logprobs.get("content") or ()]
    return [float(value) for value in found if isinstance(value, int | float)]


def _has_token(chunk: Chunk) -> bool:
    """The first chunk of a chat only names the role; it comes before the upstream has computed anything."""
    choice = (chunk.get("choices") or [{}])[0]
    return bool(choice.get("text") or {name for name, value in (choice.get("delta") or {}).items() if value} - {"role"})


class _Reading:
    """What the chunks of one answer said so far."""

    def __init__(self, job: Job, source: str) -> None:
        self._chat = job.operation == "chat"
        self._shows_logprobs = wants_logprobs(job)
        self._weighed = job.weighed
        self._prompt_estimate = job.prompt_estimate
        self._source = source
        self._begun = job.prefix.tokens if job.prefix else 0
        self._tokens = 0  # chunks with content: the count when the upstream gives no usage
        self._usage: dict[str, Any] | None = None
        self._reason = ""
        self._version = ""

    def step(self, chunk: Chunk) -> Step | None:
        """None when the chunk has nothing for the client."""
        self._usage = chunk.get("usage") or self._usage
        self._version = chunk.get("model") or self._version
        choices = chunk.get("choices")
        if not choices:
            return None
        choice = choices[0]
        self._reason = choice.get("finish_reason") or self._reason
        text, extra = self._content(choice)
        if not (text or extra):
            return None
        counted = (chunk.get("usage") or {}).get("completion_tokens") or self._tokens + 1
        tokens, self._tokens = counted - self._tokens, counted
        logprobs = choice.get("logprobs")
        return Step(
            text,
            tokens,
            extra=extra or None,
            logprobs=logprobs if self._shows_logprobs else None,
            token_logprobs=_token_logprobs(logprobs) if self._weighed and logprobs else (),
        )

    def last(self) -> Step:
        if not self._reason:
            raise UpstreamFailed("The upstream ended its answer without a finish_reason.")
        usage = self._usage or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        asked = usage.get("prompt_tokens", 0) - self._begun  # what was begun was sent as a part of the prompt
        prompt_tokens = asked if asked > 0 else self._prompt_estimate
        finish = Finish(
            self._reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=self._begun + (usage.get("completion_tokens") or self._tokens),
            cached_tokens=min(cached, prompt_tokens),
            model_version="" if self._version == self._source else self._version,
        )
        return Step("", 0, finish)

    def _content(self, choice: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not self._chat:
            return choice.get("text") or "", {}
        delta = choice.get("delta") or {}
        extra = {name: value for name, value in delta.items() if name not in ("role", "content") and value}
        return delta.get("content") or "", extra
