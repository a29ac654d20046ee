"""What a scorer is worth at a spend: by complexity alone, and by complexity for its price as a `spend_target` goes."""

from collections.abc import Sequence
from typing import NamedTuple

from contracts.prices import Price
from contracts.tokens import estimate_tokens
from millrace.routing.apgr import at_share, curve
from millrace.routing.dataset import Labelled
from streams.policy.case import relative

SPENDS = (0.3, 0.5, 0.7)
ANSWER_TOKENS = (20, 100, 250)  # the longer answers are, the less the prompt's length makes of the price


class Worth(NamedTuple):
    """The last three: shares of the gap between the models that are recovered."""

    answer_tokens: int  # of every answer
    spend: float  # of always-strong
    random: float
    complexity: float
    for_its_price: float


def worth(rows: Sequence[Labelled], needs: Sequence[float], weak: Price, strong: Price) -> list[Worth]:
    """At SPENDS, but for those that even always-weak is above; nothing where the strong model is no dearer.

    Raises ValueError where the strong model is no better.
    """
    return [line for tokens in ANSWER_TOKENS for line in _worth(rows, needs, weak, strong, tokens)]


def _worth(
    rows: Sequence[Labelled], needs: Sequence[float], weak: Price, strong: Price, answer_tokens: int
) -> list[Worth]:
    prompts = [estimate_tokens(row.prompt) for row in rows]
    cheap, dear = ([price.cost(tokens, 0, answer_tokens) for tokens in prompts] for price in (weak, strong))
    extras = [most - least for least, most in zip(cheap, dear, strict=True)]
    if min(extras) <= 0:
        return []
    gains, base = [row.gain for row in rows], sum(row.weak for row in rows) / len(rows)
    priced = [relative(need, extra, 1) for need, extra in zip(needs, extras, strict=True)]
    plain, by_price = (curve(order, gains, base, extras) for order in (needs, priced))
    shares = {spend: (spend * sum(dear) - sum(cheap)) / sum(extras) for spend in SPENDS}
    return [
        Worth(answer_tokens, spend, share, at_share(plain, share).recovered, at_share(by_price, share).recovered)
        for spend, share in shares.items()
        if share >= 0
    ]
