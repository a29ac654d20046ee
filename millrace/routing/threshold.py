"""The threshold that meets a spend target: as much as the target allows goes to the better model."""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from contracts.catalogue import AUTO, AUTO_BEST, Catalogue, Rule
from contracts.errors import ConfigError
from contracts.policy_record import Calibration, with_threshold
from contracts.prices import PriceTable
from millrace.routing.hindsight import Alternative
from millrace.routing.traffic import Past
from streams.complexity import Scorer
from streams.route import Refusal, Router

LEAST_REQUESTS = 50


class Sample(NamedTuple):
    """One request; costs in nano-dollars."""

    complexity: float
    within: int  # when the rule's threshold lets it pass
    beyond: int  # when it doesn't
    best: int


class Threshold(NamedTuple):
    max_complexity: float
    spend: float  # of always-best


def find_threshold(samples: Iterable[Sample], target: float) -> Threshold | None:
    """The lowest one under which no more than that share of always-best is spent; None: there is none."""
    ranked = sorted(samples)
    cost, best = sum(sample.beyond for sample in ranked), sum(sample.best for sample in ranked)
    if cost <= target * best:
        return Threshold(0.0, cost / max(1, best))
    for complexity, equal in groupby(ranked, key=lambda sample: sample.complexity):
        cost += sum(sample.within - sample.beyond for sample in equal)
        if cost <= target * best:
            return Threshold(complexity, cost / max(1, best))
    return None


def target_rule(catalogue: Catalogue) -> Rule | None:
    return next((rule for rule in catalogue.rules if rule.spend_target is not None), None)


class Calibrator:
    """Takes requests one at a time; `rule` is the one that has a spend target."""

    def __init__(self, catalogue: Catalogue, rule: Rule, prices: PriceTable, scorer: Scorer) -> None:
        self._rule = rule
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
        self._samples.append(Sample(within.complexity, *costs, self._within.instead(past, AUTO_BEST)))

    def calibrate(self, since: int, until: int) -> Calibration:
        """Of requests of that time (UTC ms). Raises ConfigError when there were too few, or none meets the target."""
        target = self._rule.spend_target or 0.0
        count = len(self._samples)
        if count < LEAST_REQUESTS:
            raise ConfigError(
                f"Rule {self._rule.name!r} has a spend_target, and {count} requests for `auto` ended in that time; it "
                f"takes {LEAST_REQUESTS} to calibrate it. Widen --since, or apply it --uncalibrated."
            )
        found = find_threshold(self._samples, target)
        if found is None:
            least = sum(sample.within for sample in self._samples) / max(
                1, sum(sample.best for sample in self._samples)
            )
            raise ConfigError(
                f"Rule {self._rule.name!r} can't meet its spend_target of {target:.0%}: even when its threshold lets "
                f"everything pass, {least:.0%} of always-best is spent."
            )
        return Calibration(
            rule=self._rule.name, spend_target=target, **found._asdict(), requests=count, since=since, until=until
        )
