"""A request as the rules see it."""

from collections.abc import Mapping
from math import inf
from typing import Literal, NamedTuple

from contracts.catalogue import Ability, Catalogue, Rule
from contracts.envelope import Admitted
from streams.policy.estimate import Estimate

Away = Literal["no_worker", "failing", "over_capacity"]  # why a model can't take a request now


class Conditions(NamedTuple):
    """What is so at the moment, beside the request and the policy. At a replay it may be otherwise: what was chosen
    is therefore kept with the request's reservation."""

    budget_used: float = 0.0  # of the tightest budget that the request counts against, 0 to 1
    waits_ms: Mapping[str, int] = {}  # by model: how long a request would wait for its turn; what isn't known is 0
    down: Mapping[str, Away] = {}  # models that nobody serves, or that fail
    deadline: int | None = None  # UTC ms, of a request that names none

    def away(self, model: str, deadline: int | None, at: int) -> Away | None:
        """Why the model can't take a request now (UTC ms) that must start by its deadline; None when it can. A deadline
        that has passed already is no model's fault."""
        if reason := self.down.get(model):
            return reason
        return "over_capacity" if self.too_late(model, deadline, at) else None

    def too_late(self, model: str, deadline: int | None, at: int) -> bool:
        by = self.deadline if deadline is None else deadline
        return by is not None and at <= by < at + self.waits_ms.get(model, 0)

    def starts_at(self, model: str, at: int) -> int | None:
        """When a request that is sent on now would start there, UTC ms; None when it can't be told."""
        wait_ms = self.waits_ms.get(model)
        return None if wait_ms is None or self.down.get(model) == "no_worker" else at + wait_ms

    def calm(self) -> "Conditions":
        """As if every model could take it at once."""
        return Conditions(self.budget_used)


CALM = Conditions()


class Case(NamedTuple):
    request: Admitted
    complexity: float
    needs: list[Ability]
    split_key: bytes  # those that share it go to the same one of a split
    estimate: Estimate
    at: int  # UTC ms
    now: Conditions

    def fits(self, rule: Rule, extra_nano: int | None) -> bool:
        """Within every bound of the rule; whether a model of it can serve is another question. `extra_nano`: what the
        request costs more beyond the rule, where its threshold goes by that."""
        tokens = self.request.prompt_estimate
        return (
            relative(self.complexity, extra_nano, rule.reference_nano) <= rule.max_complexity
            and (rule.max_prompt_tokens is None or tokens <= rule.max_prompt_tokens)
            and (rule.min_prompt_tokens is None or tokens >= rule.min_prompt_tokens)
            and (rule.min_budget_used is None or self.now.budget_used >= rule.min_budget_used)
            and self.concerns(rule)
        )

    def concerns(self, rule: Rule) -> bool:
        """Whether the rule is for this tenant, feature and user at all."""
        request = self.request
        return (
            (rule.tenants is None or request.request_key.partition(":")[0] in rule.tenants)
            and (rule.features is None or request.feature in rule.features)
            and (rule.users is None or request.user in rule.users)
        )

    def can(self, model: str, catalogue: Catalogue) -> bool:
        """Whether the model is able to serve it: abilities, context, and its turn before the deadline."""
        spec = catalogue.models[model]
        return (
            self.request.prompt_estimate < spec.context_tokens
            and all(need in spec.abilities for need in self.needs)
            and self.now.away(model, self.request.deadline, self.at) is None
        )


def relative(complexity: float, extra_nano: int | None, reference_nano: int | None) -> float:
    """Complexity for its price: of a request that costs twice the reference more on the better model, half counts.

    What costs nothing more there has no reason to stay. Without a reference complexity counts as it is.
    """
    if reference_nano is None or extra_nano is None:
        return complexity
    if extra_nano <= 0:
        return inf if complexity else 0.0
    return complexity * reference_nano / extra_nano
