"""`prices.toml`: what a token costs, by model, version and date. Money is integer nano-dollars."""

from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from contracts.catalogue import load_toml
from contracts.errors import ConfigError
from contracts.money import NANO, Dollars

__all__ = ["NANO", "Price", "PriceTable", "load_prices"]

_MILLION = 1_000_000


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
