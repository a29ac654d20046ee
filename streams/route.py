"""Route: which model serves a request. A named model is honoured; `auto` takes the first rule that fits."""

from typing import NamedTuple

from contracts.catalogue import AUTO, Catalogue, Rule
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest
from contracts.prices import PriceTable
from streams.complexity import SCORERS

NAMED = "named"
MAX_COST = "max-cost"


class Route(NamedTuple):
    model: str
    rule: str  # the rule that chose it, or `named`, or `max-cost`
    complexity: float
    tokens: int  # estimated: prompt and answer


class Refusal(NamedTuple):
    """Why no model can serve it, in public words."""

    status: int
    code: str
    message: str
    param: str
    retry_after_ms: int | None = None
    type: str = "invalid_request_error"


class Router:
    def __init__(self, catalogue: Catalogue, prices: PriceTable) -> None:
        self.version = catalogue.version
        self._catalogue = catalogue
        self._prices = prices

    def choose(self, request: Admitted, body: bytes, at: int) -> Route | Refusal:
        """`at` (UTC ms) says which prices are in force. The body is parsed only when the choice depends on it."""
        if request.requested_model != AUTO:
            return self._named(request, at)
        try:
            score = SCORERS[self._catalogue.scorer](body, request.prompt_estimate).score
        except InvalidRequest as error:
            return Refusal(error.status, error.code or "", error.message, error.param or "")
        rule = next((rule for rule in self._catalogue.rules if self._fits(rule, score, request)), None)
        if rule is None:
            message = f"No model takes a prompt of about {request.prompt_estimate} tokens; shorten it or name a model."
            return Refusal(400, "prompt_too_long", message, "messages")
        if self._within(rule.model, request, at):
            return Route(rule.model, rule.name, score, self._tokens(rule.model, request))
        return self._cheapest(request, score, at)

    def _named(self, request: Admitted, at: int) -> Route | Refusal:
        """Never answered by another model than the one that was asked for."""
        model = request.requested_model
        if model not in self._catalogue.models:
            return Refusal(404, "model_not_found", f"The model {model!r} is not served here.", "model")
        if not self._within(model, request, at):
            return self._too_dear(request, {model: self._cost(model, request, at)})
        return Route(model, NAMED, 0.0, self._tokens(model, request))

    def _cheapest(self, request: Admitted, score: float, at: int) -> Route | Refusal:
        """Under a cost ceiling, among the models that the rules name."""
        candidates = {rule.model for rule in self._catalogue.rules if self._holds(rule.model, request)}
        costs = {model: self._cost(model, request, at) for model in sorted(candidates)}
        model = min(costs, key=costs.__getitem__)
        if not self._within(model, request, at):
            return self._too_dear(request, costs)
        return Route(model, MAX_COST, score, self._tokens(model, request))

    def _fits(self, rule: Rule, score: float, request: Admitted) -> bool:
        short = rule.max_prompt_tokens is None or request.prompt_estimate <= rule.max_prompt_tokens
        return short and score <= rule.max_complexity and self._holds(rule.model, request)

    def _holds(self, model: str, request: Admitted) -> bool:
        return request.prompt_estimate < self._catalogue.models[model].context_tokens

    def _within(self, model: str, request: Admitted, at: int) -> bool:
        return request.max_cost is None or self._cost(model, request, at) <= request.max_cost

    def _cost(self, model: str, request: Admitted, at: int) -> int:
        """Estimated nano-dollars: what isn't cached is assumed fresh. A model without a price is never billed."""
        price = self._prices.find(model, self._catalogue.models[model].version, at)
        return price.cost(request.prompt_estimate, 0, self._output(model, request)) if price else 0

    def _tokens(self, model: str, request: Admitted) -> int:
        return request.prompt_estimate + self._output(model, request)

    def _output(self, model: str, request: Admitted) -> int:
        """The longest answer to expect: no cap lets it outgrow the context."""
        spec = self._catalogue.models[model]
        return min(request.max_tokens or spec.default_output_tokens, spec.context_tokens)

    def _too_dear(self, request: Admitted, costs: dict[str, int]) -> Refusal:
        least = min(costs.values())
        message = (
            f"The estimated cost of {least} nano-dollars is above the ceiling of {request.max_cost}; "
            "raise max-cost, shorten the prompt or lower max_tokens."
        )
        return Refusal(400, "max_cost_exceeded", message, "max-cost")
