"""Route: which model serves a request. A named model is honoured; for `auto` the first rule that fits decides.

The choice is a function of the record, the policy, the prices and the conditions at the moment, and of nothing else.
"""

import hashlib
from typing import Any, NamedTuple

from contracts.bodies import parse_object
from contracts.cascade import read_cascade
from contracts.catalogue import AUTO_BEST, AUTO_CHEAP, AUTOMATIC, Ability, Catalogue, Rule
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest
from contracts.prices import PriceTable
from streams.complexity import Scorer, scorer
from streams.policy.case import CALM, Case, Conditions
from streams.policy.estimate import Estimate
from streams.policy.needs import needs, opening, told_before
from streams.policy.split import pick

NAMED = "named"
MAX_COST = "max-cost"
STICKY = "sticky"


class Route(NamedTuple):
    model: str
    rule: str  # the rule that chose it; or `named`, `max-cost`, `sticky`, `auto:cheap`, `auto:best`
    complexity: float
    tokens: int  # estimated: prompt and answer
    fallback_from: str = ""  # the model that should have had it
    fallback_reason: str = ""  # why that one couldn't take it; see Away
    starts_at: int | None = None  # UTC ms, expected by what the workers told; shown, decides nothing any more
    cascade: str = ""  # when its answer doesn't stand, and who answers then: a header, see contracts/cascade.py
    shadow: str = ""  # the model that runs too, once it has answered


class Refusal(NamedTuple):
    """Why no model can serve it, in public words."""

    status: int
    code: str
    message: str
    param: str
    retry_after_ms: int | None = None
    type: str = "invalid_request_error"


class _Choice(NamedTuple):
    model: str
    rule: str


class Router:
    """One policy with its scorer. `version` names both, to the bit: `<version>+<hash>/<scorer>`."""

    def __init__(self, catalogue: Catalogue, prices: PriceTable, using: Scorer | None = None) -> None:
        self.catalogue = catalogue
        self.scorer = using or scorer(catalogue.scorer)
        self.version = f"{catalogue.version}+{_hash(catalogue)}/{self.scorer.version}"
        self._prices = prices
        self._cascades = {rule.name: rule.cascade for rule in catalogue.rules if rule.cascade}
        self._shadows = {rule.name: rule.shadow for rule in catalogue.rules if rule.shadow}

    def choose(self, request: Admitted, body: bytes, at: int, now: Conditions = CALM) -> Route | Refusal:
        """`at` (UTC ms) says which prices are in force. The body is parsed only when the choice depends on it.

        When the model that should have it can't take it now, the first able one of that model's chain does, and for
        `auto` whichever the rules would choose without it; or it waits, unless its deadline passes meanwhile. Nobody
        waits for a second answer: where its model can't take it now, the first one stands.
        """
        chosen = self._chosen(request, body, at, now)
        return chosen if isinstance(chosen, Refusal) else _at_hand(chosen, request, at, now)

    def extra_cost(self, rule: Rule, request: Admitted, body: bytes, at: int) -> int | None:
        """Nano-dollars, estimated: what the request costs more if that rule leaves it to those after it. None where it
        can't be that rule's, or no other's. Raises InvalidRequest."""
        place = self.catalogue.rules.index(rule)
        return self._extra(place, self._case(request, parse_object(body), at, CALM))

    def _chosen(self, request: Admitted, body: bytes, at: int, now: Conditions) -> Route | Refusal:
        wanted = self._wanted(request, body, at, now.calm())
        if isinstance(wanted, Refusal):
            return wanted
        reason = now.away(wanted.model, request.deadline, at)
        if reason is None:
            return wanted
        other = self._stand_in(wanted, request, body, at, now)
        if other:
            return other._replace(fallback_from=wanted.model, fallback_reason=reason)
        return _too_late(wanted.model, request, at, now) or wanted

    def _wanted(self, request: Admitted, body: bytes, at: int, now: Conditions) -> Route | Refusal:
        if request.requested_model not in AUTOMATIC:
            return self._named(request, Estimate(self.catalogue, self._prices, request, at))
        try:
            fields = parse_object(body)
            case = self._case(request, fields, at, now)
        except InvalidRequest as error:
            return Refusal(error.status, error.code or "", error.message, error.param or "")
        return self._automatic(case, fields)

    def _case(self, request: Admitted, fields: dict[str, Any], at: int, now: Conditions) -> Case:
        score = self.scorer.score(fields, request.prompt_estimate, 0).score
        estimate = Estimate(self.catalogue, self._prices, request, at)
        return Case(request, score, needs(fields), self._split_key(request, fields), estimate, at, now)

    def _stand_in(self, wanted: Route, request: Admitted, body: bytes, at: int, now: Conditions) -> Route | None:
        """Who takes it in the place of that model, if anybody can now."""
        chain = self.catalogue.models[wanted.model].fallback
        estimate = Estimate(self.catalogue, self._prices, request, at)
        case = Case(request, wanted.complexity, _needs(body) if chain else [], b"", estimate, at, now)
        for model in chain:
            if case.can(model, self.catalogue) and estimate.within_ceiling(model):
                return Route(model, wanted.rule, wanted.complexity, estimate.tokens(model))
        if request.requested_model not in AUTOMATIC:
            return None
        other = self._wanted(request, body, at, now)
        return other if isinstance(other, Route) else None

    def _named(self, request: Admitted, estimate: Estimate) -> Route | Refusal:
        """Never answered by another model than the one that was asked for."""
        model = request.requested_model
        if model not in self.catalogue.models:
            return Refusal(404, "model_not_found", f"The model {model!r} is not served here.", "model")
        if not estimate.within_ceiling(model):
            return _too_dear(request, estimate.cost(model))
        return Route(model, NAMED, 0.0, estimate.tokens(model))

    def _automatic(self, case: Case, fields: dict[str, Any]) -> Route | Refusal:
        reachable = self._reachable(case)
        able = [model for model in reachable if case.can(model, self.catalogue)]
        if not able:
            return self._unable(case, reachable)
        choice = self._choice(case, fields, able)
        if choice is None:
            return _NO_RULE
        if not case.estimate.within_ceiling(choice.model):
            choice = _Choice(min(able, key=case.estimate.cost), MAX_COST)
            if not case.estimate.within_ceiling(choice.model):
                return _too_dear(case.request, case.estimate.cost(choice.model))
        tokens, cascade, shadow = (
            case.estimate.tokens(choice.model),
            self._cascade(case, choice),
            self._shadow(case, choice),
        )
        return Route(*choice, case.complexity, tokens, cascade=cascade, shadow=shadow)

    def _choice(self, case: Case, fields: dict[str, Any], able: list[str]) -> _Choice | None:
        asked = case.request.requested_model
        if asked == AUTO_CHEAP:
            return _Choice(min(able, key=case.estimate.cost), AUTO_CHEAP)
        if asked == AUTO_BEST:
            affordable = [model for model in able if case.estimate.within_ceiling(model)]
            return _Choice(max(affordable or able, key=lambda model: self._standing(model, case)), AUTO_BEST)
        choice = self._by_rules(case)
        return self._stay(case, fields, choice) if choice and self.catalogue.sticky else choice

    def _by_rules(self, case: Case, start: int = 0) -> _Choice | None:
        """By the first that fits, from that place on."""
        for place, rule in enumerate(self.catalogue.rules[start:], start):
            extra = None if rule.reference_nano is None else self._extra(place, case)
            if case.fits(rule, extra) and (model := self._target(rule, case)):
                return _Choice(model, rule.name)
        return None

    def _extra(self, place: int, case: Case) -> int | None:
        """Nano-dollars that it costs more beyond that rule; None where one of the two sides has no model for it."""
        rule = self.catalogue.rules[place]
        within, beyond = self._target(rule, case), self._by_rules(case, place + 1)
        return case.estimate.cost(beyond.model) - case.estimate.cost(within) if within and beyond else None

    def _target(self, rule: Rule, case: Case) -> str | None:
        able = [model for model in self.catalogue.targets(rule) if case.can(model, self.catalogue)]
        if len(able) <= 1:
            return able[0] if able else None
        if rule.split:
            return pick({model: rule.split[model] for model in able}, case.split_key)
        if rule.model and self.catalogue.classes[rule.model].prefer == "speed":
            return max(able, key=lambda model: self.catalogue.models[model].tokens_per_second or 0)
        return min(able, key=case.estimate.cost)

    def _stay(self, case: Case, fields: dict[str, Any], choice: _Choice) -> _Choice:
        """On the model of the turn before, if that is no lesser one and, with its cache, no dearer either."""
        told = told_before(fields, case.request.prompt_estimate)
        if not told:
            return choice
        complexity = self.scorer.score(fields, told, 1).score
        before = self._by_rules(case._replace(complexity=complexity))
        if before is None or before.model == choice.model:
            return choice
        lesser = self._standing(before.model, case) < self._standing(choice.model, case)
        dearer = case.estimate.cost(before.model, told) > case.estimate.cost(choice.model)
        return choice if lesser or dearer else _Choice(before.model, STICKY)

    def _cascade(self, case: Case, choice: _Choice) -> str:
        """Empty where the first answer stands, whatever it is."""
        cascade = self._cascades.get(choice.rule)
        if cascade is None or cascade.model == choice.model or not case.can(cascade.model, self.catalogue):
            return ""
        most = cascade.max_cost_nano
        too_dear = most is not None and case.estimate.cost(cascade.model) > most
        return "" if too_dear or not case.estimate.within_ceiling(cascade.model) else cascade.header()

    def _shadow(self, case: Case, choice: _Choice) -> str:
        """Empty for most: it isn't drawn, or the other model is no other or can't serve it."""
        shadow = self._shadows.get(choice.rule)
        if shadow is None or shadow.model == choice.model or not shadow.draws(case.request.request_key):
            return ""
        return shadow.model if case.can(shadow.model, self.catalogue) else ""

    def _standing(self, model: str, case: Case) -> tuple[int, int]:
        return self.catalogue.models[model].quality, case.estimate.cost(model)

    def _reachable(self, case: Case) -> list[str]:
        """Every model that a rule could send this caller's requests to, each once."""
        rules = [rule for rule in self.catalogue.rules if case.concerns(rule)]
        return sorted({model for rule in rules for model in self.catalogue.targets(rule)})

    def _unable(self, case: Case, reachable: list[str]) -> Refusal:
        """Why none of them can serve it."""
        if not reachable:
            return _NO_RULE
        tokens = case.request.prompt_estimate
        specs = [self.catalogue.models[model] for model in reachable]
        fitting = [spec for spec in specs if tokens < spec.context_tokens]
        if not fitting:
            tokens = case.request.prompt_estimate
            message = f"No model takes a prompt of about {tokens} tokens; shorten it or name a model."
            return Refusal(400, "prompt_too_long", message, "messages")
        missing = next((need for need in case.needs if not any(need in spec.abilities for spec in fitting)), None)
        if missing:
            message = f"No model that holds this prompt has the ability {missing!r}: leave that out, or name a model."
            return Refusal(400, "unsupported_ability", message, _PARAMS[missing])
        return Refusal(400, "no_route", "No model that `auto` has can serve this request: name a model.", "model")

    def _split_key(self, request: Admitted, fields: dict[str, Any]) -> bytes:
        """By request; with a sticky policy by conversation, so that all its turns go to the same one of a split."""
        began = opening(fields) if self.catalogue.sticky else None
        if began is None:
            return request.request_key.encode()
        return b"%b\0%b\0%b" % (request.request_key.partition(":")[0].encode(), request.user.encode(), began)


_NO_RULE = Refusal(400, "no_route", "No rule of the routing policy takes this request: name a model.", "model")
_PARAMS = {"tools": "tools", "vision": "messages", "json_schema": "response_format"}


def _at_hand(route: Route, request: Admitted, at: int, now: Conditions) -> Route:
    """Without a second model that can't take it now. Where one stands in for another, nothing runs just to learn."""
    if route.cascade and now.away(read_cascade(route.cascade).model, request.deadline, at):
        route = route._replace(cascade="")
    if route.shadow and (route.fallback_from or now.away(route.shadow, request.deadline, at)):
        route = route._replace(shadow="")
    return route


def _hash(catalogue: Catalogue) -> str:
    return hashlib.blake2b(catalogue.model_dump_json().encode(), digest_size=4).hexdigest()


def _needs(body: bytes) -> list[Ability]:
    """What can't be read is for the engine to refuse."""
    try:
        return needs(parse_object(body))
    except InvalidRequest:
        return []


def _too_late(model: str, request: Admitted, at: int, now: Conditions) -> Refusal | None:
    """None when it may wait. When to try again: as soon as the wait is as short as this request may wait."""
    if not now.too_late(model, request.deadline, at):
        return None
    by = now.deadline if request.deadline is None else request.deadline
    wait_ms = now.waits_ms.get(model, 0)
    retry_after_ms = max(at + wait_ms - (by or at), 1)
    if now.down.get(model) == "no_worker":
        message = f"No worker serves the model {model!r} now, and the request's deadline is near."
        return Refusal(503, "no_worker", message, "model", retry_after_ms, "server_error")
    message = (
        f"The model {model!r} is over capacity: a request would wait about {wait_ms / 1000:.1f} s for its turn, "
        "longer than its deadline allows."
    )
    return Refusal(529, "over_capacity", message, "deadline", retry_after_ms, "server_error")


def _too_dear(request: Admitted, least: int) -> Refusal:
    message = (
        f"The estimated cost of {least} nano-dollars is above the ceiling of {request.max_cost}; "
        "raise max-cost, shorten the prompt or lower max_tokens."
    )
    return Refusal(400, "max_cost_exceeded", message, "max-cost")
