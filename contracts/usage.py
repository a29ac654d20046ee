"""Usage events on `usage`: one per request, and one per whatever else counts or costs, each a row of the ledger."""

import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.envelope import Lane
from contracts.outcomes import Outcome


class UsageKind(StrEnum):
    USAGE = "usage"
    WASTE = "waste"  # a second run after a crash: counted, never billed
    ADJUSTMENT = "adjustment"  # what another price makes a request cost more or less
    ESCALATED = "escalated"  # a first attempt whose answer didn't stand: counted, never billed
    SHADOW = "shadow"  # another model's run of an answered request, to compare: counted, never billed
    CREDIT = "credit"  # what somebody gave or took, with a reason


class UsageEvent(BaseModel):
    """JSON value. Times are UTC ms, counts are tokens, money is nano-dollars. Never any prompt or answer text."""

    model_config = ConfigDict(frozen=True)

    event_id: str = Field(description="deterministic, see event_id()")
    event_time: int = Field(description="UTC ms: timestamp of the completions record")
    kind: UsageKind = UsageKind.USAGE
    tenant: str
    idempotency_key: str
    claim: str = Field(description="<partition>.<offset> on requests")
    user: str = ""
    feature: str = ""
    tags: dict[str, str] = {}
    api_key_id: str = ""
    operation: Literal["chat", "text_completion", ""] = Field(description="empty for a credit without a request")
    requested_model: str
    model: str = ""
    model_version: str = ""
    engine: str = ""
    worker: str = ""
    run: str = ""
    lane: Lane = "interactive"
    route: str = ""
    fallback_from: str = Field("", description="the model that should have served it, when another one did")
    fallback_reason: str = Field("", description="why: no_worker, failing, over_capacity or failed")
    router_version: str = ""
    complexity: float = 0.0
    outcome: Outcome
    status: int
    finish_reason: str = ""
    streamed: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reserved_tokens: int = 0
    accepted_at: int
    deduped_at: int
    admitted_at: int | None = None
    started_at: int | None = None
    first_token_at: int | None = None
    finished_at: int
    engine_us: int = Field(0, description="share of the engine's time, microseconds")
    gpu_nano: int = Field(0, description="what that share of the GPUs costs us, nano-dollars; billed to nobody")
    price_version: str = ""
    cost_nano: int = Field(0, description="nano-dollars billed")
    attempt: int = Field(1, description="of the request: 2 when a first answer did not stand")
    escalated: str = Field("", description="why the first answer did not stand: unsure, invalid, refusal or length")
    unbilled_nano: int = Field(0, description="nano-dollars that an attempt which isn't billed would have cost")
    shadow_of: str = Field("", description="of a shadow run: the model whose answer it is compared with")
    agreement: Literal["", "same", "other"] = Field(
        "", description="of a shadow run: whether both answers say the same"
    )
    answer_kind: str = Field("", description="what is compared: json, call, final or text; of both runs")
    mean_logprob: float | None = Field(None, description="of the answer's own tokens, where it was asked for and told")
    doubt: str = Field(
        "", description="what is wrong with the answer in itself: invalid, refusal or length; of both runs"
    )
    trace_id: str = ""
    about: str = Field("", description="event_id of the request that an adjustment or credit is about")
    reason: str = Field("", description="why an adjustment or credit was made, in words")


def event_id(request_key: str, claim: str, waste: str = "") -> str:
    """32 hex digits from the request's identity, so that a replay makes the same event. `waste` is the
    `<partition>.<offset>` on completions of the run that came too late; or says which attempt escalated, or
    which record tells of a shadow run."""
    return hashlib.blake2b(f"{request_key}\n{claim}\n{waste}".encode(), digest_size=16).hexdigest()


def adjustment_id(about: str, number: int) -> str:
    """Of the request `about` (its event_id), its adjustments being counted from 0: made twice, it is still one."""
    return hashlib.blake2b(f"{about}\nadjustment\n{number}".encode(), digest_size=16).hexdigest()
