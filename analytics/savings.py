"""What was saved, and what was lost: by the prefix cache, by routing, and to crashes. Nano-dollars, at list price.

Each figure is the difference of two bills, made by the price table to the nano-dollar: what it would have cost, less
what it costs. Blocking.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from analytics.clickhouse import Client
from analytics.questions import utc_ms
from analytics.reprice import COST, PERIOD, PRICES, Find, price_parameters
from contracts.catalogue import AUTO
from contracts.errors import InvalidRequest
from contracts.prices import Price, PriceTable

_BILL = f"""
SELECT tenant, sum({COST})
FROM (SELECT *, toDate(event_time) AS day FROM usage WHERE {{where}} AND {PERIOD}) AS rows
INNER JOIN ({PRICES}) AS prices USING (model, model_version, day)
GROUP BY tenant
"""
_COUNTS = f"""
SELECT
    tenant, countIf(kind = 'usage'), sumIf(cached_tokens, kind = 'usage'),
    countIf(kind = 'usage' AND {{routed}}), countIf(kind = 'waste'),
    sumIf(prompt_tokens + completion_tokens, kind = 'waste'), sumIf(engine_us, kind = 'waste')
FROM usage WHERE kind IN ('usage', 'waste') AND {PERIOD}
GROUP BY tenant ORDER BY tenant
"""
_ROUTED = (
    f"(requested_model = '{AUTO}' OR startsWith(requested_model, '{AUTO}:')) AND model NOT IN ('', {{large:String}})"
)


@dataclass(frozen=True, slots=True)
class Savings:
    """One tenant's. `cache_nano`: cached tokens at their own price instead of fresh ones'. `routing_nano`: requests
    that the router sent to another model than the large one, which would have cost so much more. `waste_nano`: what
    second runs after crashes would have cost; nobody was billed."""

    tenant: str
    requests: int
    cached_tokens: int
    cache_nano: int
    routed_requests: int
    routing_nano: int
    waste_runs: int
    waste_tokens: int
    waste_engine_us: int
    waste_nano: int


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """Half-open: [since, until). `large`: the model that everything would have gone to. Raises InvalidRequest when it
    has no price."""

    prices: PriceTable
    large: str
    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        if all(price.model != self.large for price in self.prices.prices):
            raise InvalidRequest(f"The price table has no model {self.large!r}.", param="large")

    def lines(self, client: Client) -> list[Savings]:
        """By tenant. Raises ClickHouseError."""
        usage, routed = "kind = 'usage'", f"kind = 'usage' AND {_ROUTED}"
        cache = _less(self._bill(client, self._uncached, usage), self._bill(client, self.prices.find, usage))
        routing = _less(self._bill(client, self._always_large, routed), self._bill(client, self.prices.find, routed))
        waste = self._bill(client, self.prices.find, "kind = 'waste'")
        bounds = {"since": utc_ms(self.since), "until": utc_ms(self.until), "large": self.large}
        found = client.query(_COUNTS.replace("{routed}", _ROUTED), parameters=bounds).result_rows
        return [
            Savings(
                tenant=row[0],
                requests=row[1],
                cached_tokens=row[2],
                cache_nano=cache.get(row[0], 0),
                routed_requests=row[3],
                routing_nano=routing.get(row[0], 0),
                waste_runs=row[4],
                waste_tokens=row[5],
                waste_engine_us=row[6],
                waste_nano=waste.get(row[0], 0),
            )
            for row in found
        ]

    def _bill(self, client: Client, find: Find, where: str) -> dict[str, int]:
        parameters = price_parameters(client, find, self.since, self.until) | {"large": self.large}
        rows = client.query(_BILL.replace("{where}", where), parameters=parameters).result_rows
        return {row[0]: row[1] for row in rows}

    def _uncached(self, model: str, model_version: str, at: int) -> Price | None:
        price = self.prices.find(model, model_version, at)
        return price and price.model_copy(update={"cached_input": price.input})

    def _always_large(self, model: str, model_version: str, at: int) -> Price | None:
        """None where the model itself has no price: there is nothing to compare with."""
        return self.prices.find(self.large, "", at) if self.prices.find(model, model_version, at) else None


def _less(would: Mapping[str, int], does: Mapping[str, int]) -> dict[str, int]:
    return {name: would.get(name, 0) - does.get(name, 0) for name in {*would, *does}}
