"""What the router is worth: where requests went, what that cost and how good it was, beside always-large.

"Always large": each request at the price of the large model on its day, with the tokens that it really used. Money is
integer nano-dollars.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics.clickhouse import Client
from analytics.questions import DIMENSIONS, TIMES, utc_ms
from analytics.reprice import COST, PERIOD, PRICES, price_parameters
from analytics.spending import Statement
from contracts.catalogue import AUTO, Catalogue
from contracts.errors import InvalidRequest
from contracts.feedback import GOOD
from contracts.prices import Price, PriceTable

BINS = 40  # of the score's histogram
_SCOPE = "(tenant = {tenant:String} OR {tenant:String} = '')"
_CHOSEN = f"(requested_model = '{AUTO}' OR startsWith(requested_model, '{AUTO}:'))"

_SHARES = f"""
SELECT
    route, model, n_requests AS requests, n_prompt AS prompt_tokens, n_completion AS completion_tokens,
    nano AS cost_nano, nano_at_large AS large_nano, judged, good, mean AS score
FROM
(
    SELECT
        route, model, countIf(kind = 'usage') AS n_requests, sum(prompt_tokens) AS n_prompt,
        sum(completion_tokens) AS n_completion, sum(cost_nano) AS nano,
        sum(multiIf(kind != 'usage', 0, priced, {COST}, cost_nano)) AS nano_at_large
    FROM
    (
        SELECT *, toDate(event_time) AS day FROM usage
        WHERE kind IN ('usage', 'adjustment') AND {_CHOSEN} AND model != '' AND {_SCOPE} AND {PERIOD}
    ) AS rows
    LEFT JOIN ({PRICES}) AS prices USING (model, model_version, day)
    GROUP BY route, model
) AS ran
LEFT JOIN
(
    SELECT route, model, count() AS judged, countIf(score >= {GOOD}) AS good, avg(score) AS mean
    FROM judged WHERE {_CHOSEN} AND {_SCOPE} AND {PERIOD}
    GROUP BY route, model
) AS said USING (route, model)
ORDER BY requests DESC, route, model
"""
_OVER_TIME = f"""
SELECT
    {{time}} AS {{resolution}}, countIf(kind = 'usage') AS requests,
    countIf(kind = 'usage' AND model = {{large:String}}) AS large_requests, sum(cost_nano) AS spent_nano,
    sum(multiIf(kind != 'usage', 0, priced, {COST}, cost_nano)) AS large_nano
FROM
(
    SELECT *, toDate(event_time) AS priced_on FROM usage
    WHERE kind IN ('usage', 'adjustment') AND {_CHOSEN} AND model != '' AND {_SCOPE} AND {PERIOD}
) AS rows
LEFT JOIN (SELECT * EXCEPT day, day AS priced_on FROM ({PRICES})) AS prices USING (model, model_version, priced_on)
GROUP BY {{resolution}} ORDER BY {{resolution}}
"""
_ESCALATIONS = f"""
SELECT route, model, escalated, attempts, attempts / requests AS rate, not_billed AS unbilled_nano
FROM
(
    SELECT route, model, escalated, count() AS attempts, sum(unbilled_nano) AS not_billed
    FROM usage WHERE kind = 'escalated' AND {_SCOPE} AND {PERIOD}
    GROUP BY route, model, escalated
) AS first
INNER JOIN
(
    SELECT route, count() AS requests FROM usage WHERE kind = 'usage' AND {_SCOPE} AND {PERIOD} GROUP BY route
) AS every USING (route)
ORDER BY attempts DESC, route, model, escalated
"""
_SHADOWS = f"""
SELECT
    route, shadow_of, model, count() AS runs, countIf(agreement != '') AS compared, countIf(agreement = 'same') AS same,
    sum(unbilled_nano) AS not_billed_nano
FROM usage WHERE kind = 'shadow' AND {_SCOPE} AND {PERIOD}
GROUP BY route, shadow_of, model
ORDER BY runs DESC, route, shadow_of, model
"""
_SCORES = f"""
SELECT least(toUInt8(floor(complexity * {BINS})), {BINS - 1}) AS bin, model, count() AS requests
FROM usage
WHERE kind = 'usage' AND requested_model = '{AUTO}' AND model != '' AND {_SCOPE} AND {PERIOD}
GROUP BY bin, model
ORDER BY bin, model
"""


@dataclass(frozen=True, slots=True)
class RoutingReport:
    """Of requests that left the choice to the router, in [since, until). `tenant`: whose alone, and "" for everybody's,
    which operators may see. `large`: the model to compare with."""

    tenant: str
    since: datetime
    until: datetime
    large: str
    prices: PriceTable

    def shares(self, client: Client) -> Statement:
        """By route and model. Blocking: it looks up which prices are needed. Raises ClickHouseError, and InvalidRequest
        when the large model has no price."""
        return _SHARES, self._priced(client)

    def over_time(self, client: Client, resolution: str) -> Statement:
        """How many went to the large model, the cost, and always-large. Blocking and raising as `shares`, and
        InvalidRequest on an unknown resolution."""
        if resolution not in TIMES:
            raise InvalidRequest(f"The resolution is {', '.join(TIMES)}; not {resolution}.", param="resolution")
        statement = _OVER_TIME.replace("{time}", DIMENSIONS[resolution]).replace("{resolution}", resolution)
        return statement, self._priced(client)

    def scores(self) -> Statement:
        """How many requests for `auto` had which score, by the model that answered."""
        return _SCORES, {"tenant": self.tenant, "since": utc_ms(self.since), "until": utc_ms(self.until)}

    def escalations(self) -> Statement:
        """First answers that didn't stand, by route, model and why; and their share of the route's requests."""
        return _ESCALATIONS, {"tenant": self.tenant, "since": utc_ms(self.since), "until": utc_ms(self.until)}

    def shadows(self) -> Statement:
        """Other models' runs of answered requests, by route and model; and how many answers came to the same."""
        return _SHADOWS, {"tenant": self.tenant, "since": utc_ms(self.since), "until": utc_ms(self.until)}

    def _priced(self, client: Client) -> dict[str, Any]:
        if all(price.model != self.large for price in self.prices.prices):
            raise InvalidRequest(f"The price table has no model {self.large!r}.", param="large")
        found = price_parameters(client, self._always_large, self.since, self.until)
        return found | {"tenant": self.tenant, "large": self.large}

    def _always_large(self, model: str, model_version: str, at: int) -> Price | None:
        """None where the model itself has no price: there is nothing to compare with."""
        return self.prices.find(self.large, "", at) if self.prices.find(model, model_version, at) else None


def largest(catalogue: Catalogue) -> str:
    """The model of the highest quality, as `auto:best` has it; of equals the last in the file."""
    return max(catalogue.models, key=lambda name: (catalogue.models[name].quality, [*catalogue.models].index(name)))


def thresholds(catalogue: Catalogue) -> dict[str, float]:
    """Up to which score a rule takes a request, by its name; rules that take any are left out. Where that depends on
    what a request costs more beyond the rule, the threshold is for one that costs the rule's reference more."""
    bounded = (rule for rule in catalogue.rules if rule.max_complexity < 1 or rule.reference_nano is not None)
    return {rule.name: rule.max_complexity for rule in bounded}


def references(catalogue: Catalogue) -> dict[str, int]:
    """What those thresholds are for, nano-dollars, by rule; rules that have one threshold for all are left out."""
    return {rule.name: rule.reference_nano for rule in catalogue.rules if rule.reference_nano is not None}
