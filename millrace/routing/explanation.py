"""`millrace route explain`: the decision that the streams would take on a request, and what it is made of."""

from typing import NamedTuple

import orjson

from contracts.bodies import describe, parse_object
from contracts.cascade import read_cascade
from contracts.catalogue import AUTO, Rule
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest
from contracts.prices import PriceTable
from streams.policy.case import CALM, Conditions
from streams.route import Refusal, Router


class Asked(NamedTuple):
    """A request as the router sees it. `at`: UTC ms, for the prices."""

    request: Admitted
    body: bytes
    at: int


class OwnThreshold(NamedTuple):
    """Of one request, at a rule whose threshold grows with what a request costs more beyond it."""

    rule: str
    max_complexity: float
    extra_nano: int


class Explanation(NamedTuple):
    policy: str
    scorer: str
    score: float
    features: dict[str, float]
    rules: list[Rule]
    model: str
    rule: str
    costs: dict[str, int | None]  # nano-dollars by model, the longest answer to expect; None: it has no price
    fallback_from: str  # the model that it should go to, when it goes to another
    fallback_reason: str
    waits_ms: dict[str, int | None]  # by model, before its turn comes; None: nobody can tell
    escalates_to: str  # the model that answers where the chosen one's answer doesn't stand
    shadow: str  # the model that runs too, once it is answered: by the share that its key is drawn for
    own: OwnThreshold | None  # None: no rule has a threshold of this request's own

    def document(self) -> dict[str, object]:
        """For JSON."""
        rules = [rule.model_dump(exclude_none=True) for rule in self.rules]
        return {**self._asdict(), "rules": rules, "own": self.own._asdict() if self.own else None}


def as_asked(prompt: str, at: int, max_tokens: int | None) -> Asked:
    """What a caller would ask for `auto`."""
    body = orjson.dumps({"model": AUTO, "messages": [{"role": "user", "content": prompt}]})
    digest = describe(body).digest.model_copy(update={"max_tokens": max_tokens})
    request = Admitted(**digest.model_dump(), request_key="explain:prompt", claim="0.0", accepted_at=at, deduped_at=at)
    return Asked(request, body, at)


def explain(asked: Asked, router: Router, prices: PriceTable, now: Conditions = CALM) -> Explanation:
    """Raises InvalidRequest when no model takes it."""
    route = router.choose(*asked, now)
    if isinstance(route, Refusal):
        raise InvalidRequest(route.message, param=route.param)
    request, catalogue = asked.request, router.catalogue
    scored = router.scorer.score(parse_object(asked.body), request.prompt_estimate, 0)
    costs = {model: _cost(model, asked, router, prices) for model in catalogue.models}
    choice = (catalogue.rules, route.model, route.rule)
    waits = {model: _wait_ms(model, now) for model in catalogue.models}
    fallback = (route.fallback_from, route.fallback_reason)
    second = (read_cascade(route.cascade).model if route.cascade else "", route.shadow)
    score = (router.version, router.scorer.name, scored.score, scored.features)
    return Explanation(*score, *choice, costs, *fallback, waits, *second, _own(asked, router))


def _own(asked: Asked, router: Router) -> OwnThreshold | None:
    rule = next((rule for rule in router.catalogue.rules if rule.reference_nano is not None), None)
    extra = router.extra_cost(rule, *asked) if rule else None
    if rule is None or rule.reference_nano is None or extra is None:
        return None
    return OwnThreshold(rule.name, rule.max_complexity * max(0, extra) / rule.reference_nano, extra)


def _wait_ms(model: str, now: Conditions) -> int | None:
    return None if now.down.get(model) == "no_worker" else now.waits_ms.get(model)


def _cost(model: str, asked: Asked, router: Router, prices: PriceTable) -> int | None:
    spec, request = router.catalogue.models[model], asked.request
    price = prices.find(model, spec.version, asked.at)
    return price.cost(request.prompt_estimate, 0, request.max_tokens or spec.default_output_tokens) if price else None
