"""Records on `dead-letters`: key, value and headers as they came, and these headers with the reason."""

from pydantic import Field

from contracts.headers import HeaderModel


class DeadLetter(HeaderModel):
    dead_letter_reason: str = Field(max_length=1000, description="what could not be understood, in public words")
    dead_letter_stage: str = Field(description="dedupe, meter, settle, worker or sink")
    dead_letter_topic: str
    dead_letter_partition: int
    dead_letter_offset: int
    dead_letter_attempts: int = 1
