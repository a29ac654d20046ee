"""A request as the rules see it."""

from collections.abc import Mapping
from typing import NamedTuple

from contracts.catalogue import Ability, Catalogue, Rule
from contracts.envelope import Admitted
from streams.policy.estimate import Estimate


class Conditions(NamedTuple):
    """What is so at the moment, beside the request and the policy. At a replay it may be otherwise: what was chosen
    is therefore kept with the request's reservation."""

    budget_used: float = 0.0  # of the tightest budget that the request counts against, 0 to 1
    waits_ms: Mapping[str, int] = {}  # by model: how long a request would wait for its turn; what isn't known is 0


CALM = Conditions()


class Case(NamedTuple):
    request: Admitted
    complexity: float
    needs: list[Ability]
    split_key: bytes  # those that share it go to the same one of a split
    estimate: Estimate
    at: int  # UTC ms
    now: Conditions

    def fits(self, rule: Rule) -> bool:
        """Within every bound of the rule; whether a model of it can serve is another question."""
        tokens = self.request.prompt_estimate
        return (
            self.complexity <= rule.max_complexity
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
        late = self.at + self.now.waits_ms.get(model, 0)
        return (
            self.request.prompt_estimate < spec.context_tokens
            and all(need in spec.abilities for need in self.needs)
            and (self.request.deadline is None or not self.now.waits_ms or late <= self.request.deadline)
        )
