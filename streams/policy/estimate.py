"""What a request would cost on each model, before it runs: nano-dollars and tokens."""

from contracts.catalogue import Catalogue
from contracts.envelope import Admitted
from contracts.prices import PriceTable


class Estimate:
    """Of one request; `at` (UTC ms) says which prices are in force."""

    __slots__ = ("_at", "_catalogue", "_known", "_prices", "_request")

    def __init__(self, catalogue: Catalogue, prices: PriceTable, request: Admitted, at: int) -> None:
        self._catalogue = catalogue
        self._prices = prices
        self._request = request
        self._at = at
        self._known: dict[tuple[str, int], int] = {}

    def cost(self, model: str, cached_tokens: int = 0) -> int:
        """Nano-dollars. A model without a price is never billed."""
        known = self._known.get((model, cached_tokens))
        if known is None:
            known = self._known[model, cached_tokens] = self._cost(model, cached_tokens)
        return known

    def within_ceiling(self, model: str) -> bool:
        return self._request.max_cost is None or self.cost(model) <= self._request.max_cost

    def tokens(self, model: str) -> int:
        """Prompt and answer."""
        return self._prompt(model) + self._output(model)

    def _cost(self, model: str, cached_tokens: int) -> int:
        price = self._prices.find(model, self._catalogue.models[model].version, self._at)
        return price.cost(self._prompt(model), cached_tokens, self._output(model)) if price else 0

    def _prompt(self, model: str) -> int:
        return self._request.counted(model) or self._request.prompt_estimate

    def _output(self, model: str) -> int:
        """The longest answer to expect: no cap lets it outgrow the context."""
        spec = self._catalogue.models[model]
        return min(self._request.max_tokens or spec.default_output_tokens, spec.context_tokens)
