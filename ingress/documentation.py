"""What /docs and the OpenAPI document say of each route: parameters, bodies, answers.

FastAPI reads it from these dependencies. They are never run: routes take the raw request (see route.py).
"""

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query
from fastapi.security import HTTPBearer

from contracts.bodies import ChatCompletionRequest, CompletionRequest
from contracts.envelope import Lane, OnDisconnect
from contracts.feedback import Feedback
from contracts.frames import RequestState
from ingress.schemas import ChatCompletion, ErrorResponse, FeedbackReceipt, Health, ModelCard, ModelList, TextCompletion

DESCRIPTION = (
    "OpenAI-compatible inference on a durable log: accepted once, answered once, billed once. Repeat a request with "
    "the same `Idempotency-Key` and it is answered by the one run that it had, finished or not. A stream "
    "that broke goes on with its `Last-Event-ID`; many share one connection on the WebSocket `/v1/ws`. Errors are "
    "OpenAI's error object."
)


def _options(  # noqa: PLR0913, PLR0917 - one for each header
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="names the request; `auto` derives it from the body")
    ] = None,
    prefer: Annotated[
        str | None, Header(description="`respond-async` and `wait=SECONDS`, as in RFC 7240", examples=["wait=60"])
    ] = None,
    millrace_user: Annotated[str | None, Header(description="on whose behalf; else the body's `user`")] = None,
    millrace_feature: Annotated[
        str | None, Header(description="for which part of your product; else `metadata.feature`")
    ] = None,
    millrace_tags: Annotated[
        str | None, Header(description="more attribution, beside `metadata`", examples=["team=search,env=prod"])
    ] = None,
    millrace_max_cost: Annotated[
        str | None, Header(description="ceiling in dollars for `auto`", examples=["0.005"])
    ] = None,
    millrace_deadline: Annotated[
        str | None, Header(description="seconds from now, or an RFC 3339 date, after which it must not start")
    ] = None,
    millrace_lane: Annotated[
        Lane | None, Header(description="`batch` fills what `interactive` leaves; so does `service_tier: flex`")
    ] = None,
    millrace_on_disconnect: Annotated[
        OnDisconnect | None,
        Header(description="if you hang up: `cancel` (default for streams), `detach` (run on), `drain` (no deltas)"),
    ] = None,
    traceparent: Annotated[str | None, Header(description="W3C trace context")] = None,
    last_event_id: Annotated[
        str | None, Header(description="go on with a stream after this event, instead of asking anew")
    ] = None,
) -> None:
    """Headers of a request for inference."""


def _chat_body(body: ChatCompletionRequest) -> None: ...


def _completion_body(body: CompletionRequest) -> None: ...


def _feedback_body(body: Feedback) -> None: ...


def _request_key(
    key: Annotated[str, Path(description="the request's idempotency key, percent-encoded")],
    wait: Annotated[int, Query(ge=0, description="seconds to wait for its end")] = 0,
) -> None: ...


def _feedback_on(key: Annotated[str, Path(description="the request's idempotency key, percent-encoded")]) -> None: ...


def _events_of(
    key: Annotated[str, Path(description="the request's idempotency key, percent-encoded")],
    last_event_id: Annotated[
        str | None, Header(description="the id of the last event that was heard; from the beginning when absent")
    ] = None,
    wait: Annotated[int | None, Query(ge=0, description="seconds without news after which the stream ends")] = None,
    include_usage: Annotated[bool, Query(description="tokens in a last chunk, as `stream_options` has it")] = False,
) -> None: ...


def _cancelled_key(
    key: Annotated[str, Path(description="the request's idempotency key, percent-encoded")],
    wait: Annotated[int, Query(ge=1, description="seconds to wait for its end")] = 10,
) -> None: ...


def _model_id(id: Annotated[str, Path()]) -> None: ...  # noqa: A002 - the parameter's public name


_KEY = Depends(HTTPBearer(description="an API key, as `millrace keys create` prints it"))
_ANSWER_HEADERS = {
    "Idempotency-Key": "the request's key",
    "Idempotent-Replayed": "`true` on a stored answer, given again",
    "Millrace-Idempotency-Window": "seconds for which the key replays its answer",
    "Millrace-Model": "the model that answered",
    "Millrace-Outcome": "`cancelled` when the answer is what a cancelled request had got to",
    "openai-processing-ms": "milliseconds from its receipt",
    "x-ratelimit-limit-requests": "the tightest limit of requests; likewise `-tokens`",
    "x-ratelimit-remaining-requests": "what was left of it when this one was let through; likewise `-tokens`",
    "x-ratelimit-reset-requests": "how long until all of it is back, e.g. `6m0s`; likewise `-tokens`",
}
_TEXT = {"schema": {"type": "string"}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "Refused; the message says what to change"},
    "5XX": {
        "model": ErrorResponse,
        "description": "503: not accepted, try again. 504: accepted, not yet ready; `Location` has it later",
    },
}


def _headers(names: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()}


def _inference(summary: str, body: Any, answer: type[Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "tags": ["inference"],
        "dependencies": [_KEY, Depends(_options), Depends(body)],
        "responses": {
            200: {
                "model": answer,
                "description": "The answer, or with `stream` its chunks as server-sent events",
                "headers": _headers(_ANSWER_HEADERS),
                "content": {"text/event-stream": _TEXT},
            },
            202: {
                "model": RequestState,
                "description": "`Prefer: respond-async`: accepted, to be fetched at `Location`",
                "headers": _headers({"Location": "where its state and answer are", "Preference-Applied": "RFC 7240"}),
            },
            **_ERRORS,
        },
    }


CHAT = _inference("Answer a chat", _chat_body, ChatCompletion)
COMPLETION = _inference("Continue a text", _completion_body, TextCompletion)
REQUEST: dict[str, Any] = {
    "summary": "How a request stands, and its answer when there is one",
    "tags": ["requests"],
    "dependencies": [_KEY, Depends(_request_key)],
    "responses": {200: {"model": RequestState}, **_ERRORS},
}
EVENTS: dict[str, Any] = {
    "summary": "Follow a request: its chunks as server-sent events, from the beginning or after an id",
    "tags": ["requests"],
    "dependencies": [_KEY, Depends(_events_of)],
    "responses": {
        200: {"description": "OpenAI chunks, each with an id", "content": {"text/event-stream": _TEXT}},
        204: {"description": "`Last-Event-ID` is the stream's last: there is nothing more"},
        **_ERRORS,
    },
}
CANCEL: dict[str, Any] = {
    "summary": "End a request early; what it has produced is its answer, and is billed",
    "tags": ["requests"],
    "dependencies": [_KEY, Depends(_cancelled_key)],
    "responses": {
        200: {"model": RequestState, "description": "It has ended as cancelled, now or before"},
        202: {"model": RequestState, "description": "It will: what runs stops, what waits never runs"},
        404: {"model": ErrorResponse, "description": "There is no such request"},
        409: {"model": ErrorResponse, "description": "It had ended otherwise: nothing has changed"},
        **_ERRORS,
    },
}
FEEDBACK: dict[str, Any] = {
    "summary": "Say how good an answer was: the router learns from it",
    "tags": ["requests"],
    "status_code": 202,
    "dependencies": [_KEY, Depends(_feedback_on), Depends(_feedback_body)],
    "responses": {202: {"model": FeedbackReceipt, "description": "Written down; the latest counts"}, **_ERRORS},
}
MODELS: dict[str, Any] = {
    "summary": "The models that are served, and `auto`",
    "tags": ["models"],
    "dependencies": [_KEY],
    "responses": {200: {"model": ModelList}, **_ERRORS},
}
MODEL: dict[str, Any] = {
    "summary": "One model",
    "tags": ["models"],
    "dependencies": [_KEY, Depends(_model_id)],
    "responses": {200: {"model": ModelCard}, **_ERRORS},
}
HEALTH: dict[str, Any] = {
    "summary": "Whether the process lives",
    "tags": ["health"],
    "responses": {200: {"model": Health}},
}
READY: dict[str, Any] = {
    "summary": "Whether it can take requests",
    "tags": ["health"],
    "responses": {200: {"model": Health}, 503: {"model": Health, "description": "Kafka is away, or it is stopping"}},
}
