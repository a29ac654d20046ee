"""The threshold that meets a spend target: as much as the target allows goes to the better model.

What goes there first has the highest complexity for its price: for what it costs more there, as it is estimated before
it runs. So a dollar more buys the most; long prompts look complex, and cost the most.
"""

from collections.abc import Iterable
from itertools import groupby
from math import isfinite
from statistics import mean
from typing import NamedTuple, Self

from contracts.catalogue import AUTO, AUTO_BEST, Catalogue, Rule
from contracts.errors import ConfigError
from contracts.policy_record import Calibration, with_threshold
from contracts.prices import PriceTable
from millrace.routing.hindsight import Alternative
from millrace.routing.traffic import Past
from streams.complexity import Scorer
from streams.policy.case import relative
from streams.route import Refusal, Router

LEAST_REQUESTS = 50


class Sample(NamedTuple):
    """One request; costs in nano-dollars."""

    complexity: float
    within: int  # when the rule's threshold lets it pass
    beyond: int  # when it doesn't
    best: int
    extra: int | None = None  # estimated, see Router.extra_cost; None where the threshold decides nothing

    def for_its_price(self, reference: int | None) -> Self:
        """With the complexity that a threshold at this reference is compared with."""
        return self._replace(complexity=relative(self.complexity, self.extra, reference))


class Threshold(NamedTuple):
    max_complexity: float
    spend: float  # of always-best


def find_threshold(samples: Iterable[Sample], target: float) -> Threshold | None:
    """The lowest one under which no more than that share of always-best is spent; None: there is none."""
    ranked = sorted(samples, key=lambda sample: sample.complexity)
    cost, best = sum(sample.beyond for sample in ranked), sum(sample.best for sample in ranked)
    if cost <= target * best:
        return Threshold(0.0, cost / max(1, best))
    for complexity, equal in groupby(ranked, key=lambda sample: sample.complexity):
        cost += sum(sample.within - sample.beyond for sample in equal)
        if isfinite(complexity) and cost <= target * best:
            return Threshold(complexity, cost / max(1, best))
    return None


def reference_of(samples: Iterable[Sample]) -> int | None:
    """The mean of what they cost more beyond the rule, nano-dollars; None when none of them does."""
    extras = [sample.extra for sample in samples if sample.extra is not None and sample.extra > 0]
    return max(1, round(mean(extras))) if extras else None


def target_rule(catalogue: Catalogue) -> Rule | None:
    return next((rule for rule in catalogue.rules if rule.spend_target is not None), None)


class Calibrator:
    """Takes requests one at a time; `rule` is the one that has a spend target."""

    def __init__(self, catalogue: Catalogue, rule: Rule, prices: PriceTable, scorer: Scorer) -> None:
        self._rule = rule
        self._router = Router(catalogue, prices, scorer)
        self._within, self._beyond = (
            Alternative(Router(with_threshold(catalogue, rule.name, bound), prices, scorer), prices)
            for bound in (1.0, 0.0)
        )
        self._samples: list[Sample] = []

    def take(self, past: Past) -> None:
        """Requests for `auto` itself: the others cost the same under any threshold."""
        if past.request.requested_model != AUTO:
            return
        within, beyond = self._within.choose(past), self._beyond.choose(past)
        if isinstance(within, Refusal) or isinstance(beyond, Refusal):
            return
        costs = (self._within.cost(past, within), self._beyond.cost(past, beyond))
        decides = within.model != beyond.model
        extra = self._router.extra_cost(self._rule, past.request, past.body, past.at) if decides else None
        self._samples.append(Sample(within.complexity, *costs, self._within.instead(past, AUTO_BEST), extra))

    def calibrate(self, since: int, until: int) -> Calibration:
        """Of requests of that time (UTC ms). Raises ConfigError when there were too few, or none meets the target."""
        target = self._rule.spend_target or 0.0
        count = len(self._samples)
        if count < LEAST_REQUESTS:
            raise ConfigError(
                f"Rule {self._rule.name!r} has a spend_target, and {count} requests for `auto` ended in that time; it "
                f"takes {LEAST_REQUESTS} to calibrate it. Widen --since, or apply it --uncalibrated."
            )
        reference = reference_of(self._samples)
        found = find_threshold((sample.for_its_price(reference) for sample in self._samples), target)
        if found is None:
            least = sum(sample.within for sample in self._samples) / max(
                1, sum(sample.best for sample in self._samples)
            )
            raise ConfigError(
                f"Rule {self._rule.name!r} can't meet its spend_target of {target:.0%}: even when its threshold lets "
                f"everything pass, {least:.0%} of always-best is spent."
            )
        return Calibration(
            rule=self._rule.name,
            spend_target=target,
            **found._asdict(),
            reference_nano=reference,
            requests=count,
            since=since,
            until=until,
        )
