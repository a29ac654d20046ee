"""A request that was answered without a run, since its key had one: told on `duplicates`, to count savings."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from contracts import faults


class Duplicate(BaseModel):
    """JSON; the key is the tenant. It names no user and no key: `about` leads to the request's row, which does."""

    model_config = ConfigDict(frozen=True)

    place: str = Field(pattern=r"^\d+\.\d+$", description="<partition>.<offset> on requests of the record that asked")
    at: int = Field(description="UTC ms: that record's timestamp")
    tenant: str = Field(min_length=1)
    feature: str = ""
    about: str = Field(min_length=1, description="event_id of the request whose answer it got")
    how: Literal["joined", "replayed"] = Field(description="while it ran, or after it had ended")

    @classmethod
    def decode(cls, value: bytes | None) -> Self:
        """Raises InvalidRequest naming the field and what is wrong with it."""
        return faults.decode(cls, value)
