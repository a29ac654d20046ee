"""What was saved, and what was lost: by the prefix cache, by routing, and to crashes. Nano-dollars, at list price.

Each figure is the difference of two bills, made by the price table to the nano-dollar: what it would have cost, less
what it costs. Blocking.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from dataclasses import dataclass
from datetime import UTC, datetime

from analytics.clickhouse import Client
from analytics.questions import utc_ms
from analytics.reprice import COST, PERIOD, PRICES, cost_sql, price_parameters
from analytics.spending import Statement
from contracts.catalogue import AUTO
from contracts.errors import InvalidRequest
from contracts.prices import Price, PriceTable

_ROUTED = (
    f"(requested_model = '{AUTO}' OR startsWith(requested_model, '{AUTO}:')) AND model NOT IN ('', {{large:String}})"
)
_LARGE = """
SELECT
    toDate(p.1) AS day, 1 AS large_priced,
    p.2 AS large_input, p.3 AS large_cached, p.4 AS large_output, p.5 AS large_request
FROM (SELECT arrayJoin(arrayZip(
    {large_days:Array(String)}, {large_inputs:Array(Int64)}, {large_cached:Array(Int64)},
    {large_outputs:Array(Int64)}, {large_requests:Array(Int64)}
)) AS p)
"""
# Who was answered without a run would have been billed what the run was that answered. A record that came twice after a
# crash, and made a claim of its own at last, was no duplicate.
_ASKED_AGAIN = """
FROM duplicates FINAL
WHERE (tenant = {tenant:String} OR {tenant:String} = '')
    AND at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
"""
_DUPLICATES = f"""
SELECT tenant, count() AS spared, sum(spared_cost) AS spared_nano
FROM (SELECT tenant, place, about {_ASKED_AGAIN}) AS asked
LEFT JOIN
(
    SELECT event_id AS about, cost_nano AS spared_cost FROM usage
    WHERE tenant IN (SELECT tenant {_ASKED_AGAIN}) AND event_id IN (SELECT about {_ASKED_AGAIN})
) AS answered USING (about)
WHERE (tenant, place) NOT IN
(
    SELECT tenant, claim FROM usage
    WHERE tenant IN (SELECT tenant {_ASKED_AGAIN}) AND claim IN (SELECT place {_ASKED_AGAIN})
)
GROUP BY tenant
"""
_UNCACHED = cost_sql(cached="input")
_AT_LARGE = cost_sql("large_input", "large_cached", "large_output", "large_request")
_SAVED = f"""
SELECT
    tenant, countIf(kind = 'usage') AS requests, sumIf(cached_tokens, kind = 'usage') AS cached,
    sumIf({_UNCACHED} - {COST}, kind = 'usage' AND priced) AS cache_nano,
    countIf(kind = 'usage' AND {_ROUTED}) AS routed_requests,
    sumIf({_AT_LARGE} - {COST}, kind = 'usage' AND {_ROUTED} AND priced AND large_priced) AS routing_nano,
    countIf(kind = 'waste') AS waste_runs, sumIf(prompt_tokens + completion_tokens, kind = 'waste') AS waste_tokens,
    sumIf(engine_us, kind = 'waste') AS waste_engine_us, sumIf({COST}, kind = 'waste' AND priced) AS waste_nano,
    any(spared) AS duplicates, any(spared_nano) AS duplicate_nano
FROM
(
    SELECT *, toDate(event_time) AS day FROM usage
    WHERE kind IN ('usage', 'waste') AND (tenant = {{tenant:String}} OR {{tenant:String}} = '') AND {PERIOD}
) AS rows
LEFT JOIN ({PRICES}) AS prices USING (model, model_version, day)
LEFT JOIN ({_LARGE}) AS larges USING (day)
LEFT JOIN ({_DUPLICATES}) AS again USING (tenant)
GROUP BY tenant ORDER BY tenant
"""


@dataclass(frozen=True, slots=True)
class Savings:
    """One tenant's. `cache_nano`: cached tokens at their own price instead of fresh ones'. `routing_nano`: requests
    that the router sent to another model than the large one, which would have cost so much more. `waste_nano`: what
    second runs after crashes would have cost; nobody was billed. `duplicate_nano`: what those answers were billed that
    were given once more without a run."""

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
    duplicates: int
    duplicate_nano: int


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """Half-open: [since, until). `large`: the model that everything would have gone to. `tenant`: whose alone; "" for
    everybody's. Raises InvalidRequest when `large` has no price."""

    prices: PriceTable
    large: str
    since: datetime
    until: datetime
    tenant: str = ""

    def __post_init__(self) -> None:
        if all(price.model != self.large for price in self.prices.prices):
            raise InvalidRequest(f"The price table has no model {self.large!r}.", param="large")

    def sql(self, client: Client) -> Statement:
        """The statement and its parameters, with the prices that the period needs; blocking. Raises ClickHouseError."""
        parameters = price_parameters(client, self.prices.find, self.since, self.until)
        larges = [(day, price) for day in sorted({*parameters["days"]}) if (price := self._large_on(day))]
        return _SAVED, parameters | {
            "tenant": self.tenant,
            "large": self.large,
            "large_days": [day for day, _ in larges],
            "large_inputs": [price.input for _, price in larges],
            "large_cached": [price.cached_input for _, price in larges],
            "large_outputs": [price.output for _, price in larges],
            "large_requests": [price.request for _, price in larges],
        }

    def lines(self, client: Client) -> list[Savings]:
        """By tenant. Raises ClickHouseError."""
        statement, parameters = self.sql(client)
        return [Savings(*row) for row in client.query(statement, parameters=parameters).result_rows]

    def _large_on(self, day: str) -> Price | None:
        return self.prices.find(self.large, "", utc_ms(datetime.fromisoformat(day).replace(tzinfo=UTC)))
