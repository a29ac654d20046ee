"""An OpenAI request in vLLM's words: prompt tokens and sampling parameters, and log-probabilities back."""

from collections.abc import Iterable
from typing import Any

from contracts.errors import InvalidRequest
from inference.engine import Job

_HELD_BACK_TOKENS = 64
_COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "include_stop_str_in_output",
    "bad_words",
    "allowed_token_ids",
)  # OpenAI's, and those that vLLM's own server adds, under the same names


def client_errors() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it won't take."""
    try:
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415 - newer than some supported versions
    except ImportError:
        return (ValueError,)
    return (VLLMClientError,)


def render_prompt(tokenizer: Any, job: Job) -> list[int]:
    """The prompt's tokens, by the model's own chat template. Raises InvalidRequest."""
    if job.operation == "text_completion":
        return list(tokenizer.encode(job.body["prompt"]))
    if job.body.get("tools"):
        raise InvalidRequest("This model's engine doesn't parse tool calls; remove tools.", param="tools")
    try:
        text = tokenizer.apply_chat_template(
            [_plain(message) for message in job.body["messages"]],
            tokenize=False,
            add_generation_prompt=True,
            **(job.body.get("chat_template_kwargs") or {}),
        )
    except InvalidRequest:
        raise
    except Exception as error:  # templates are the model's own programs: they raise what they like
        raise InvalidRequest(f"The model's chat template refuses these messages: {error}", param="messages") from error
    return list(tokenizer.encode(text, add_special_tokens=False))


def prefix_tokens(tokenizer: Any, job: Job) -> list[int]:
    """The tokens after which an answer goes on: those that were sampled, as far as their text was published (what may
    become a stop string, or is half a character, is held back); else the text's own."""
    if job.prefix is None:
        return []
    text, ids = job.prefix.text, list(job.prefix.token_ids or ())
    plain = job.body.get("skip_special_tokens") is not False
    for end in range(len(ids), max(len(ids) - _HELD_BACK_TOKENS, 0), -1):
        if tokenizer.decode(ids[:end], skip_special_tokens=plain) == text:
            return ids[:end]
    return list(tokenizer.encode(text, add_special_tokens=False))


def output_tokens(job: Job, space: int) -> int:
    """The longest answer, when the context has space for so many tokens beside the prompt."""
    return job.max_tokens or (space if job.operation == "chat" else min(space, _COMPLETION_TOKENS))


def sampling_params(job: Job, longest: int, begun: int = 0) -> Any:
    """vLLM's SamplingParams for an answer of `longest` tokens, `begun` of which are there. Raises InvalidRequest."""
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    body = job.body
    chosen = {name: body[name] for name in _SAMPLING if body.get(name) is not None}
    refusals: tuple[type[Exception], ...] = (*client_errors(), ValueError)
    try:
        if body.get("logit_bias"):
            chosen["logit_bias"] = {int(token): float(bias) for token, bias in body["logit_bias"].items()}
        if begun and "min_tokens" in chosen:
            chosen["min_tokens"] = max(chosen["min_tokens"] - begun, 0)
        return SamplingParams(
            **chosen,
            max_tokens=longest - begun,
            logprobs=_wanted_logprobs(job),
            structured_outputs=_structure(body.get("response_format")),
            output_kind=RequestOutputKind.DELTA if job.stream else RequestOutputKind.FINAL_ONLY,
        )
    except TypeError as error:
        raise InvalidRequest(f"One of these has the wrong type: {', '.join(chosen)}.") from error
    except refusals as error:
        raise InvalidRequest(str(error)) from error


def completion_logprobs(completion: Any, count: int) -> dict[str, Any] | None:
    """OpenAI's `logprobs` of a chat choice, for the tokens of this step; with the `count` likeliest of each."""
    if not completion.logprobs:
        return None
    chosen = zip(completion.token_ids, completion.logprobs, strict=True)
    return {"content": [_with_rivals(candidates[token], candidates.values(), count) for token, candidates in chosen]}


def token_logprobs(completion: Any) -> list[float]:
    """Of this step's tokens."""
    found = completion.logprobs or ()
    return [candidates[token].logprob for token, candidates in zip(completion.token_ids, found, strict=False)]


def wants_logprobs(job: Job) -> bool:
    """Whether its client is shown them."""
    return bool(job.body.get("logprobs"))


def _with_rivals(chosen: Any, candidates: Iterable[Any], count: int) -> dict[str, Any]:
    best = sorted(candidates, key=lambda candidate: candidate.rank)[:count]
    return _logprob(chosen) | {"top_logprobs": [_logprob(candidate) for candidate in best]}


def _logprob(value: Any) -> dict[str, Any]:
    token = value.decoded_token or ""
    return {"token": token, "logprob": max(value.logprob, -9999.0), "bytes": list(token.encode())}


def _wanted_logprobs(job: Job) -> int | None:
    if not wants_logprobs(job):
        return 0 if job.weighed else None
    if job.operation == "text_completion":
        raise InvalidRequest("This model's engine gives logprobs for chats only.", param="logprobs")
    return int(job.body.get("top_logprobs") or 0)


def _structure(response_format: Any) -> Any:
    """OpenAI's `response_format` as a grammar that the answer can't leave."""
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415

    kind = (response_format or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return StructuredOutputsParams(json_object=True)
    if kind == "json_schema":
        return StructuredOutputsParams(json=(response_format.get("json_schema") or {}).get("schema"))
    raise InvalidRequest("response_format.type must be text, json_object or json_schema.", param="response_format")


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Content parts joined to text: chat templates expect strings. Raises InvalidRequest for images and sounds."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    if any(part.get("type") != "text" for part in content):
        raise InvalidRequest("This model's engine takes text only.", param="messages")
    return message | {"content": "".join(part.get("text") or "" for part in content)}
