"""What somebody thought of an answer: value on `feedback`, whose record key is that of the request."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from contracts import faults

GOOD = 0.5  # a score from which on an answer counts as right


class Feedback(BaseModel):
    """JSON. The latest on a request counts. Never any prompt or answer text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    score: float = Field(ge=0, le=1, description="0: useless, 1: right; 0.5 and more counts as right")
    label: str = Field("", max_length=64, description="what it was about, e.g. thumbs or wrong-facts")

    @classmethod
    def decode(cls, value: bytes | None) -> Self:
        """Raises InvalidRequest naming the field and what is wrong with it."""
        return faults.decode(cls, value)
