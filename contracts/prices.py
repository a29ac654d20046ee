"""`prices.toml`: what a token costs, by model, version and date. Money is integer nano-dollars."""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from contracts.catalogue import load_toml
from contracts.errors import ConfigError

NANO = 1_000_000_000
_MILLION = 1_000_000


def _nano_dollars(value: Any) -> int:
    """Dollars, written as a string or integer (a TOML float has already lost digits), to nano-dollars."""
    if isinstance(value, float):
        raise ValueError('write the price as a string, "0.15"')  # noqa: TRY004 - pydantic turns it into a field error
    try:
        nano = Decimal(value) * NANO
    except (InvalidOperation, TypeError):
        raise ValueError("a price is a number of dollars, as a string") from None
    if not nano.is_finite() or nano != nano.to_integral_value() or nano < 0:
        raise ValueError("a price is a whole, positive number of nano-dollars")
    return int(nano)


Dollars = Annotated[int, BeforeValidator(_nano_dollars)]


class Price(BaseModel):
    """In force from `since` (UTC) until the next one of the same model and version. Per million tokens, in dollars."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    model_version: str | None = Field(None, description="any version when unset")
    since: date
    input: Dollars
    cached_input: Dollars
    output: Dollars
    request: Dollars = 0

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """Nano-dollars, rounded half up once, over the whole request."""
        fresh = prompt_tokens - cached_tokens
        per_million = fresh * self.input + cached_tokens * self.cached_input + completion_tokens * self.output
        return self.request + (per_million + _MILLION // 2) // _MILLION


class PriceTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(description="cited by every row of the ledger")
    prices: list[Price] = Field(min_length=1)

    def find(self, model: str, model_version: str, at: int) -> Price | None:
        """The price in force at `at` (UTC ms): the latest, and among those a version's own before the model's."""
        day = datetime.fromtimestamp(at / 1000, UTC).date()
        return _find(tuple(self.prices), model, model_version, day)


@lru_cache(maxsize=4096)
def _find(prices: tuple[Price, ...], model: str, model_version: str, day: date) -> Price | None:
    fitting = [p for p in prices if p.model == model and p.model_version in (None, model_version) and p.since <= day]
    return max(fitting, key=lambda price: (price.model_version is not None, price.since), default=None)


def load_prices(path: Path | None = None) -> PriceTable:
    """The price file, or the shipped one. Raises ConfigError."""
    table = load_toml(path, "prices.toml", PriceTable)
    seen = [(price.model, price.model_version, price.since) for price in table.prices]
    if len(set(seen)) != len(seen):
        raise ConfigError(f"{path or 'prices.toml'}: two prices for one model, version and date.")
    return table
