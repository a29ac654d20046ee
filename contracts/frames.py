"""Frames on `responses`: what a waiting client is told, keyed by request.

A delta's value is an OpenAI chunk, ready to be written after `data: `; a final's is the whole OpenAI response; an
error's is OpenAI's error object; a state's says how an unfinished request stands (RequestState). A place has no value.
"""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from contracts.headers import HeaderModel
from contracts.outcomes import Outcome


class FrameKind(StrEnum):
    DELTA = "delta"
    FINAL = "final"
    ERROR = "error"
    STATE = "state"
    PLACE = "place"


class Frame(HeaderModel):
    """Headers of a frame. `position` is how many characters of the answer's text the client has after this frame."""

    kind: FrameKind
    run: str = ""
    sequence: int = Field(0, ge=0, description="1, 2, 3 … within a run; on a final: how many deltas there were")
    position: int = Field(0, ge=0, description="characters of text up to and with this frame")
    in_reply_to: str = Field("", description="only for the asker whose ce_id this is; for every waiter when absent")
    replayed: bool = Field(default=False, description="a stored answer, given again")
    status: int = Field(200, ge=100, le=599)
    outcome: Outcome | None = None
    model: str = ""
    claim: str = ""
    prompt_tokens: int = Field(0, ge=0)
    cached_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)
    retry_after_ms: int | None = Field(None, ge=0)
    rate_limits: str = Field("", description="the caller's limits and what is left of them; on a run's first frame")
    fallback_from: str = Field("", description="the model that should have answered")
    fallback_reason: str = Field("", description="why it did not: no_worker, failing, over_capacity or failed")
    escalated: str = Field("", description="why the first model's answer did not stand")
    deltas_at: str = Field("", description="on a state: the reply address that has the deltas; `responses` when absent")
    queue_position: int | None = Field(None, ge=0, description="on a place: requests that start before it")
    estimated_start: int | None = Field(None, description="on a place: UTC ms, expected; or when it has started")
    accepted_at: int | None = Field(None, description="on a state: UTC ms, before any of its frames")
    fingerprint: str = Field("", description="on a state: of the body that runs")


class RequestState(BaseModel):
    """Answer of `GET /v1/requests/{key}`; times are UTC ms."""

    id: str
    object: str = "millrace.request"
    status: str = Field(description="in_progress, cancelling, or an outcome")
    model: str | None = None
    created_at: int | None = None
    finished_at: int | None = None
    queue_position: int | None = Field(
        None, description="requests that start before it, about; 0 when it is next or runs; null when nobody can tell"
    )
    estimated_start_at: int | None = Field(
        None, description="when it is expected to start, or has started; null when nobody can tell"
    )
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
