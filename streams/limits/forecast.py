"""What a request may use, before it runs: as much as it may at the most, by what is known of its like."""

from contracts.catalogue import Catalogue
from contracts.envelope import Admitted
from contracts.prices import Price, PriceTable
from streams.limits.account import Need
from streams.limits.calendar import day_of
from streams.limits.history import History


class Forecast:
    def __init__(self, catalogue: Catalogue, prices: PriceTable) -> None:
        self._models = catalogue.models
        self._prices = prices
        self._known: dict[tuple[str, int], Price | None] = {}  # by model and day

    def need(self, model: str, request: Admitted, history: History, at: int) -> Need:
        """The answer is as long as the caller allows, or else as answers are; nothing is assumed to be cached.

        `at` (UTC ms) says which prices are in force; a model without one is never billed.
        """
        prompt = request.counted(model) or history.prompt_tokens(request.prompt_estimate)
        spec = self._models[model]
        answer = request.max_tokens or history.answer_tokens(spec.default_output_tokens)
        answer = min(answer, spec.context_tokens)
        price = self._price(model, at)
        return Need(prompt + answer, price.cost(prompt, 0, answer) if price else 0)

    def _price(self, model: str, at: int) -> Price | None:
        day = model, day_of(at)
        if day not in self._known:
            self._known[day] = self._prices.find(model, self._models[model].version, at)
        return self._known[day]
