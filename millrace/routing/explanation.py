"""`millrace route explain`: the decision that the streams would take on a prompt, and what it is made of."""

from typing import NamedTuple

import orjson

from contracts.bodies import describe, parse_object
from contracts.catalogue import AUTO, Catalogue, Rule
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest
from contracts.prices import PriceTable
from streams.route import Refusal, Router


class Explanation(NamedTuple):
    scorer: str
    score: float
    features: dict[str, float]
    rules: list[Rule]
    model: str
    rule: str
    costs: dict[str, int | None]  # nano-dollars by model, the longest answer to expect; None: it has no price


def explain(prompt: str, catalogue: Catalogue, prices: PriceTable, at: int, max_tokens: int | None) -> Explanation:
    """`at`: UTC ms, for the prices. Raises InvalidRequest when no model takes the prompt."""
    body = orjson.dumps({"model": AUTO, "messages": [{"role": "user", "content": prompt}]})
    digest = describe(body).digest.model_copy(update={"max_tokens": max_tokens})
    request = Admitted(**digest.model_dump(), request_key="explain:prompt", claim="0.0", accepted_at=at, deduped_at=at)
    router = Router(catalogue, prices)
    route = router.choose(request, body, at)
    if isinstance(route, Refusal):
        raise InvalidRequest(route.message, param=route.param)
    scored = router.scorer.score(parse_object(body), digest.prompt_estimate, 0)
    costs = {
        model: _cost(model, catalogue, prices, at, digest.prompt_estimate, max_tokens) for model in catalogue.models
    }
    return Explanation(catalogue.scorer, scored.score, scored.features, catalogue.rules, route.model, route.rule, costs)


def _cost(model: str, catalogue: Catalogue, prices: PriceTable, at: int, tokens: int, answer: int | None) -> int | None:
    spec = catalogue.models[model]
    price = prices.find(model, spec.version, at)
    return price.cost(tokens, 0, answer or spec.default_output_tokens) if price else None
