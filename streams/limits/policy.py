"""Which limits hold for a request.

Limits that look at the same things (all users, say) are one kind: within a kind the more particular one sets each
figure that it gives, and what names the tenant is more particular than what names its API key, user or feature, in this
order. Every kind counts for itself, and all of them must let a request through: the tightest wins.
"""

from itertools import product
from typing import NamedTuple

import structlog

from contracts.compacted import Records
from contracts.limits import EACH, UNLIMITED, Limit, Selector
from contracts.settings import Settings
from streams.limits.account import TENANT, Charge, Whose
from streams.limits.measures import MEASURES, Measure

_MOST_REMEMBERED = 5_000  # callers
_log = structlog.get_logger()

Kind = tuple[bool, bool, bool]  # whether it looks at the user, the feature, the API key
Caller = tuple[str, str, str, str]  # tenant, user, feature, API key


class Held(NamedTuple):
    """What holds for one account."""

    whose: Whose
    limits: tuple[tuple[Measure, int], ...]
    counted: tuple[tuple[Measure, int], ...]  # those, and with a limit of 0 what a tenant counts besides
    charge: Charge


class Policy:
    """All limits that are set, and above them the default of each tenant. Changed by records of `limits`, at any time:
    a decision that was taken is found again in its reservation, and not taken anew."""

    def __init__(self, default: Limit) -> None:
        self._default = default
        self._limits: dict[Selector, Limit] = {}
        self._kinds: set[Kind] = set()
        self._remembered: dict[Caller, tuple[Held, ...]] = {}

    def apply(self, records: Records) -> None:
        """Keys and values. What can't be read is passed over: no limit is better than a wrong one."""
        for key, value in records:
            try:
                selector = Selector.decode(key)
                limit = Limit.model_validate_json(value) if value else None
            except ValueError:  # pydantic's and orjson's are
                _log.warning("a limit's record can't be read and is passed over", key=repr(key))
                continue
            self._limits.pop(selector, None)
            if limit is not None:
                self._limits[selector] = limit
        self._kinds = {_kind(selector) for selector in self._limits} - {_kind(Selector(EACH))}
        self._remembered.clear()

    def holding(self, tenant: str, user: str, feature: str, api_key: str) -> tuple[Held, ...]:
        """The tenant's own comes first, and is never missing."""
        caller = (tenant, user, feature, api_key)
        found = self._remembered.get(caller)
        if found is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[caller] = self._find(caller)
        return found

    def of(self, tenant: str, whose: Whose) -> Held:
        """What holds for one account alone."""
        kind = tuple(name is not None for name in whose)
        return self._held((tenant, *(name or "" for name in whose)), kind)  # type: ignore[arg-type]

    def _find(self, caller: Caller) -> tuple[Held, ...]:
        others = (self._held(caller, kind) for kind in sorted(self._kinds))
        return (self._held(caller, (False, False, False)), *(held for held in others if held.limits))

    def _held(self, caller: Caller, kind: Kind) -> Held:
        figures = self._figures(caller, kind)
        limits = tuple((m, limit) for m in MEASURES if isinstance(limit := figures.get(m.name), int))
        named = (name if looked_at else None for name, looked_at in zip(caller[1:], kind, strict=True))
        whose = Whose(*named)
        besides = tuple((m, 0) for m in MEASURES if whose == TENANT and m.always and m not in dict(limits))
        counted = limits + besides
        charge = Charge(whose, sum(1 << measure.index for measure, _ in counted))
        return Held(whose, limits, counted, charge)

    def _figures(self, caller: Caller, kind: Kind) -> dict[str, int | str]:
        """From the most general limit to the most particular."""
        tenant, user, feature, api_key = caller
        figures = {} if any(kind) else self._default.figures()
        names = [_choices(name, looked_at) for name, looked_at in zip((user, feature, api_key), kind, strict=True)]
        for each, key, whom, part in product((EACH, tenant), names[2], names[0], names[1]):
            if limit := self._limits.get(Selector(each, whom, part, key)):
                figures |= limit.figures()
        return {name: figure for name, figure in figures.items() if figure != UNLIMITED}


def default_policy(settings: Settings) -> Policy:
    """As long as nobody has set limits."""
    return Policy(Limit(tokens_per_minute=settings.tokens_per_minute, requests_per_minute=settings.requests_per_minute))


def _choices(name: str, looked_at: bool) -> tuple[str | None, ...]:
    """`*` is each name that there is; a request without one is limited by a limit on no name alone."""
    if not looked_at:
        return (None,)
    return (EACH, name) if name else (name,)


def _kind(selector: Selector) -> Kind:
    return selector.user is not None, selector.feature is not None, selector.api_key is not None
