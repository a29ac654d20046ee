"""Records on `dead-letters`: key, value and headers as they came, and these headers with the reason."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.headers import HeaderModel

HEADER_PREFIX = "dead-letter-"


class DeadLetter(HeaderModel):
    dead_letter_reason: str = Field(max_length=1000, description="what could not be understood, in public words")
    dead_letter_stage: str = Field(description="dedupe, meter, settle, worker, sink or feedback")
    dead_letter_topic: str
    dead_letter_partition: int
    dead_letter_offset: int
    dead_letter_attempts: int = 1
    dead_letter_outcome: str = Field("", description="how its client was answered; empty when it wasn't")


class Handled(BaseModel):
    """Value on `dead-letters-handled` (compacted); the record key is `<partition>.<offset>` of the letter."""

    model_config = ConfigDict(frozen=True)

    action: Literal["redriven", "dropped"]
    at: int = Field(description="UTC ms")
