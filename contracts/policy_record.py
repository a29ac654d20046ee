"""The routing policy in force: `routes` (compacted, key `policy`) has the file as applied and what was measured for it.

Nothing of it is computed anew by who reads it, so every reader decides by the same policy.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.catalogue import Catalogue, parse_toml
from contracts.errors import ConfigError

POLICY_KEY = b"policy"


class Calibration(BaseModel):
    """The threshold that meets a rule's `spend_target` on the requests of a span of time (UTC ms)."""

    model_config = ConfigDict(frozen=True)

    rule: str
    spend_target: float
    max_complexity: float = Field(
        ge=0, description="used in place of the file's; above 1 where only cheap ones exceed it"
    )
    reference_nano: int | None = Field(
        None, ge=1, description="what a request costs more beyond the rule, on average; none: the same bound for all"
    )
    spend: float = Field(description="of always-best, on those requests")
    requests: int
    since: int
    until: int


class PolicyRecord(BaseModel):
    """Value on `routes`. A tombstone gives the policy back to each process's own file."""

    model_config = ConfigDict(frozen=True)

    toml: str = Field(description="routes.toml, as it was applied")
    calibration: Calibration | None = None
    scorer: dict[str, Any] | None = Field(
        None, description="what `millrace route train` wrote; the shipped one if none"
    )
    applied_at: int = Field(description="UTC ms")

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Raises ConfigError."""
        try:
            return cls.model_validate_json(value)
        except ValidationError:
            raise ConfigError("The record isn't a routing policy.") from None

    def catalogue(self) -> Catalogue:
        """With the threshold that was measured. Raises ConfigError when this program can't read the file."""
        catalogue = parse_toml(self.toml, "the applied policy", Catalogue)
        if self.calibration is None:
            return catalogue
        measured = self.calibration
        return with_threshold(catalogue, measured.rule, measured.max_complexity, measured.reference_nano)


def with_threshold(
    catalogue: Catalogue, rule: str, max_complexity: float, reference_nano: int | None = None
) -> Catalogue:
    """The same policy but for one rule's threshold; without a reference it is the same for every request."""
    update = {"max_complexity": max_complexity, "reference_nano": reference_nano}
    rules = [one.model_copy(update=update) if one.name == rule else one for one in catalogue.rules]
    return catalogue.model_copy(update={"rules": rules})
