"""How much of their limits callers use: asked of the meters on `admitted`, answered by a `state` frame."""

from typing import Literal

from pydantic import BaseModel, Field

from contracts.headers import HeaderModel


class UsageQuestion(HeaderModel):
    """Headers of an empty record on `admitted`: its partition's owner answers. Without a tenant it means all of the
    partition's; with a user, feature or API key the one account of just these."""

    ce_type: Literal["millrace.limits.v1"] = "millrace.limits.v1"
    ce_id: str = Field(min_length=1, max_length=255)
    reply_to: str = Field(max_length=300)
    tenant: str = ""
    user: str = ""
    feature: str = ""
    api_key_id: str = ""


class MeasureUsage(BaseModel):
    """Tokens, requests or nano-dollars; what runs counts with what it reserved."""

    used: int
    limit: int | None = Field(None, description="none: counted, and not limited")
    reset_ms: int = Field(0, description="until all of the limit is there again")

    @property
    def share(self) -> float:
        """Of the limit; a limit of 0 is used up."""
        if self.limit is None:
            return 0.0
        return self.used / self.limit if self.limit else 1.0


class AccountUsage(BaseModel):
    tenant: str
    user: str | None = None
    feature: str | None = None
    api_key: str | None = None
    measures: dict[str, MeasureUsage] = Field(description="by the figure's name")

    @property
    def share(self) -> float:
        """Of the limit that is nearest."""
        return max((measure.share for measure in self.measures.values()), default=0.0)


class UsageAnswer(BaseModel):
    at: int = Field(description="UTC ms")
    accounts: list[AccountUsage] = Field(description="the nearest to a limit first")
    complete: bool = Field(True, description="whether these are all")
