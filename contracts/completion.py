"""A terminal outcome on `completions`: the answer's bytes as value, these headers beside those of the work record."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.cascade import Doubt
from contracts.headers import HeaderModel
from contracts.outcomes import Outcome


class Execution(HeaderModel):
    """What one run of a request says of itself. Times are UTC ms, counts are tokens."""

    status: int = Field(200, ge=100, le=599, description="HTTP status of the answer")
    run: str = Field("", description="names this execution: another one of the same request has another run")
    worker: str = ""
    engine: str = ""
    model_version: str = ""
    prompt_tokens: int = Field(0, ge=0)
    cached_tokens: int = Field(0, ge=0, description="prompt tokens found in the prefix cache")
    completion_tokens: int = Field(0, ge=0)
    started_at: int | None = None
    first_token_at: int | None = None
    finished_at: int = Field(description="UTC ms")
    engine_us: int = Field(0, ge=0, description="its share of the engine's time, microseconds")
    gpu_nano: int = Field(0, ge=0, description="what that share of the GPUs costs, nano-dollars")
    finish_reason: str = ""
    sequence: int = Field(0, ge=0, description="delta frames that this run published")
    position: int = Field(0, ge=0, description="characters of text in those frames")
    retry_after_ms: int | None = Field(None, ge=0)


class Traits(HeaderModel):
    """What can be said of an answer without its text; told where a shadow run is to be compared with it."""

    answer_kind: Literal["", "json", "call", "final", "text"] = Field(
        "",
        description="what of it is compared: a JSON document, tool calls, a final answer that it names, or all of it",
    )
    answer_digest: str = Field("", description="hex, over that, normalised: two answers that say the same share it")
    mean_logprob: float | None = Field(None, description="of its own tokens, where the engine tells")
    doubt: Doubt | Literal[""] = Field("", description="invalid, refusal or length: what is wrong with it in itself")


class Completion(Execution, Traits):
    """Added to the headers of the record that it ends."""

    outcome: Outcome


ESCALATED: Final = "escalated"  # says so in place of an outcome


class Escalation(Execution):
    """An attempt whose answer doesn't stand: not an end, the next model takes the request. The value is the request's
    body, since that goes on."""

    outcome: Literal["escalated"] = ESCALATED
    escalated: Doubt
    first_answer: str = Field(
        "", description="the answer that doesn't stand, where it is whole and no longer than MOST_CARRIED"
    )


MOST_CARRIED: Final = 65_536  # bytes; half of what headers may add to the largest request: topics.GROWTH_BYTES


class FirstAnswer(BaseModel):
    """JSON in a header of the second attempt's work: what the first one took, should its answer be needed."""

    model_config = ConfigDict(frozen=True)

    model: str
    model_version: str = ""
    engine: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""


class FirstStands(Completion):
    """The second attempt failed, and the first one's answer is the request's after all. These headers come after those
    of the work, and so count."""

    model: str
    fallback_from: str
    fallback_reason: str = "failed"


SHADOW_WANTED: Final = "shadow"
SHADOWED: Final = "shadowed"


class ShadowWanted(Execution, Traits):
    """No end: after one that answered, whoever ran it hands on the body for the model that is to run too. That is the
    value."""

    outcome: Literal["shadow"] = SHADOW_WANTED


class Shadowed(Execution, Traits):
    """A shadow run is over. It ends no request, and has no value: nobody is to see its answer."""

    outcome: Literal["shadowed"] = SHADOWED
    shadow_outcome: Outcome
