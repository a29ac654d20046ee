"""A cascade: the small model answers first, and the large one where that answer shows that it wasn't sure of it."""

from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import InvalidRequest

Doubt = Literal["unsure", "invalid", "refusal", "length"]


class Cascade(BaseModel):
    """When a first answer doesn't stand. Log-probabilities are natural ones, of the tokens that were chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="answers where the first model's answer doesn't stand")
    on: tuple[Doubt, ...] = Field(
        ("unsure", "invalid", "refusal", "length"), min_length=1, description="what makes an answer not stand"
    )
    mean_logprob: float | None = Field(-0.5, le=0, description="unsure below this: the mean over the answer's tokens")
    worst_logprob: float | None = Field(-2.0, le=0, description="unsure below this: the mean of the worst stretch")
    stretch_tokens: int = Field(8, ge=1, description="length of a stretch")
    hold_ms: int = Field(1500, ge=0, description="a stream is held back for so long at the most; then it stands")
    hold_tokens: int = Field(64, ge=1, description="and for so many tokens")
    min_left_ms: int = Field(1000, ge=0, description="the first answer stands when the deadline is nearer than this")
    max_cost_nano: int | None = Field(
        None, ge=0, description="the first answer stands when the second is estimated above this, nano-dollars"
    )

    def header(self) -> str:
        """What a worker must know of it, as it travels with the request."""
        return self.model_dump_json(exclude={"max_cost_nano"})


@lru_cache(maxsize=256)
def read_cascade(header: str) -> Cascade:
    """Raises InvalidRequest."""
    try:
        return Cascade.model_validate_json(header)
    except ValidationError:
        raise InvalidRequest("Header cascade isn't one that route writes.", param="cascade") from None
