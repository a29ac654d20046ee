"""What a policy would have made of requests that have passed: where they would have gone, and what for.

Assumed: another model would have written as many tokens, and would have found as many in its cache. Budgets and queues
are not what they were: no rule that asks for a used-up budget applies.
"""

from collections import Counter
from typing import NamedTuple

from contracts.catalogue import AUTO_BEST, AUTO_CHEAP, AUTOMATIC
from contracts.prices import PriceTable
from millrace.routing.traffic import Past
from streams.route import Refusal, Route, Router


class Alternative:
    """Another policy, and what its choices would have cost."""

    def __init__(self, router: Router, prices: PriceTable) -> None:
        self.version = router.version
        self._router = router
        self._prices = prices

    def choose(self, past: Past) -> Route | Refusal:
        return self._router.choose(past.request, past.body, past.at)

    def instead(self, past: Past, model: str) -> int:
        """The cost in nano-dollars, had it asked for that model, at any price."""
        asked = past.request.model_copy(update={"requested_model": model, "max_cost": None})
        return self.cost(past, self._router.choose(asked, past.body, past.at))

    def cost(self, past: Past, route: Route | Refusal) -> int:
        """Nano-dollars, for the same tokens. What is refused costs nothing."""
        if isinstance(route, Refusal):
            return 0
        model, spent = route.model, past.spent
        if model == spent.model:
            return spent.cost_nano
        price = self._prices.find(model, self._router.catalogue.models[model].version, past.at)
        return price.cost(spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens) if price else 0


class Move(NamedTuple):
    then: str  # model
    now: str  # model, or why it is refused


class Line(NamedTuple):
    """Costs in nano-dollars."""

    requests: int = 0
    cost_then: int = 0
    cost_now: int = 0

    def plus(self, then: int, now: int) -> "Line":
        return Line(self.requests + 1, self.cost_then + then, self.cost_now + now)


class Hindsight:
    """Takes requests one at a time. Sums are nano-dollars, of those requests that the router chooses for."""

    def __init__(self, policy: Alternative) -> None:
        self.requests = self.automatic = 0
        self.then = self.now = self.best = self.cheap = 0
        self.named = 0  # nano-dollars, of the other requests
        self.rules: Counter[str] = Counter()
        self.moves: dict[Move, Line] = {}
        self.policy = policy

    def take(self, past: Past) -> None:
        self.requests += 1
        if past.request.requested_model not in AUTOMATIC:
            self.named += past.spent.cost_nano
            return
        route = self.policy.choose(past)
        then, now = past.spent.cost_nano, self.policy.cost(past, route)
        self.automatic += 1
        self.then += then
        self.now += now
        self.best += self.policy.instead(past, AUTO_BEST)
        self.cheap += self.policy.instead(past, AUTO_CHEAP)
        if isinstance(route, Refusal):
            rule = model = f"refused: {route.code}"
        else:
            rule, model = route.rule, route.model
        self.rules[rule] += 1
        move = Move(past.spent.model, model)
        self.moves[move] = self.moves.get(move, Line()).plus(then, now)

    def document(self) -> dict[str, object]:
        """For JSON."""
        moves = [{**move._asdict(), **line._asdict()} for move, line in sorted(self.moves.items())]
        costs = {name: getattr(self, name) for name in ("then", "now", "best", "cheap", "named")}
        counts = {"requests": self.requests, "automatic": self.automatic}
        return {"policy": self.policy.version, **counts, "cost_nano": costs, "rules": dict(self.rules), "moves": moves}
