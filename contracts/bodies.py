"""Bodies of `POST /v1/chat/completions` and `/v1/completions`: what is checked before a request may claim its key.

Fields that Millrace needn't understand pass through to the engine untouched. Source: OpenAI API reference, 2026.
"""

import hashlib
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from contracts.envelope import Digest, Operation
from contracts.errors import InvalidRequest
from contracts.faults import invalid
from contracts.tags import format_tags
from contracts.tokenizer import Tokenizer, Tokenizers
from contracts.tokens import estimate_tokens

MaxTokens = Annotated[int, Field(ge=1, le=10_000_000)]
_NONE: Tokenizers = MappingProxyType({})
# What ChatML and Llama 3 put around each message, but for the line break that joins it here; and before the answer.
_AROUND_MESSAGE, _BEFORE_ANSWER = 4, 5


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class StreamOptions(_Lenient):
    include_usage: StrictBool = False


class ChatMessage(_Lenient):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content or () if isinstance(part.get("text"), str))

    @property
    def is_text(self) -> bool:
        """And nothing else: no picture, no call of a tool."""
        parts = self.content if isinstance(self.content, list) else ()
        called = (self.model_extra or {}).get("tool_calls")
        return not called and all(isinstance(part.get("text"), str) for part in parts)


class _Request(_Lenient):
    model: str = Field(min_length=1, max_length=255)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Literal[1] | None = Field(None, description="one answer per key")
    user: str | None = Field(None, max_length=255)
    metadata: dict[str, str] | None = None


class ChatCompletionRequest(_Request):
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: MaxTokens | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(_Request):
    prompt: str = Field(description="one prompt; token lists and batches aren't supported")


class Described(NamedTuple):
    """One parse of a body: the request, its digest, and the attribution that the body carries."""

    request: ChatCompletionRequest | CompletionRequest
    digest: Digest
    user: str
    feature: str
    tags: str


_MODELS: dict[str, type[ChatCompletionRequest | CompletionRequest]] = {
    "chat": ChatCompletionRequest,
    "text_completion": CompletionRequest,
}


def describe(body: bytes, operation: Operation | None = None, tokenizers: Tokenizers = _NONE) -> Described:
    """Parse and check a body once. Without an operation (a direct producer), `prompt` tells it from a chat.

    Raises InvalidRequest with a message that names the field and what is wrong with it.
    """
    fields = parse_object(body)
    operation = operation or ("text_completion" if "prompt" in fields and "messages" not in fields else "chat")
    try:
        request = _MODELS[operation].model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from None
    metadata = request.metadata or {}
    tokenizer = tokenizers.get(request.model)
    digest = Digest(
        operation=operation,
        requested_model=request.model,
        fingerprint=fingerprint(operation, fields),
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
        prompt_estimate=estimate_tokens(prompt_text(request)),
        prompt_count=count_prompt(request, tokenizer) if tokenizer else None,
        max_tokens=getattr(request, "max_completion_tokens", None) or request.max_tokens,
    )
    tags = format_tags({name: value for name, value in metadata.items() if name != "feature"})
    return Described(request, digest, request.user or "", metadata.get("feature", ""), tags)


def parse_object(body: bytes) -> dict[str, Any]:
    """Raises InvalidRequest when the body isn't one JSON object in UTF-8."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return fields


def prompt_text(request: ChatCompletionRequest | CompletionRequest) -> str:
    if isinstance(request, CompletionRequest):
        return request.prompt
    return "\n".join(f"{message.role}: {message.text()}" for message in request.messages)


def count_prompt(request: ChatCompletionRequest | CompletionRequest, tokenizer: Tokenizer) -> int | None:
    """Tokens; None where a prompt isn't text alone: what models make of tools and pictures is learned, not known."""
    if isinstance(request, CompletionRequest):
        return tokenizer.count(request.prompt)
    if request.tools or not all(message.is_text for message in request.messages):
        return None
    text = "\n".join([message.text() for message in request.messages])
    return tokenizer.count(text) + _AROUND_MESSAGE * len(request.messages) + _BEFORE_ANSWER


def fingerprint(operation: Operation, fields: dict[str, Any]) -> str:
    """32 hex digits; blind to key order, white space and how the answer is delivered, alert to everything else.

    Raises InvalidRequest on a body that is nested more than 250 levels deep.
    """
    asked = {name: value for name, value in fields.items() if name not in ("stream", "stream_options")}
    try:
        canonical = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise InvalidRequest("The body is nested too deeply.") from None
    return hashlib.blake2b(operation.encode() + b"\n" + canonical, digest_size=16).hexdigest()
