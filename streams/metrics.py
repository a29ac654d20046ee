"""What the streams tell Prometheus: decisions as they fall, and whoever reads them again after a crash counts again."""

import shutil
from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path

from contracts.catalogue import Catalogue
from contracts.envelope import Lane
from contracts.instruments import before_scrape, counters, gauges, histograms
from contracts.metrics import (
    ADMITTED,
    ADMITTED_TOKENS,
    COST,
    DEAD_LETTERS,
    DEDUPE,
    DISK_FREE,
    LIMITED,
    PARTITIONS,
    POISON,
    REQUESTS,
    STAGE_FAILURES,
    STAGE_RECORDS,
    TOKEN_USAGE,
    UNROUTED,
    WASTE,
    WASTE_TOKENS,
)
from contracts.outcomes import Outcome
from contracts.poison_limit import PoisonLimit
from contracts.prices import NANO
from contracts.settings import Settings
from contracts.topics import LANES
from contracts.usage import UsageEvent, UsageKind
from streams.limits.measures import MEASURES
from streams.tables import Tables

OPERATIONS = ("chat", "text_completion")
_DECISIONS = ("new", "again", "replayed", "attached", "reused", "crowded")
_REFUSALS = (
    "model_not_found",
    "no_route",
    "no_worker",
    "over_capacity",
    "prompt_too_long",
    "unsupported_ability",
    "max_cost_exceeded",
)
_MEASURES = frozenset(measure.name for measure in MEASURES)
_REMEMBERED = 1024  # requests of a model's lane

_dedupe = counters(DEDUPE)
_admitted, _admitted_tokens = counters(ADMITTED), counters(ADMITTED_TOKENS)
_limited, _unrouted = counters(LIMITED), counters(UNROUTED)
_requests, _cost, _usage = counters(REQUESTS), histograms(COST), histograms(TOKEN_USAGE)
_waste, _waste_tokens = counters(WASTE), counters(WASTE_TOKENS)
_sources: dict[str, str] = {}  # models' own names, by those that they are served under
recent: defaultdict[tuple[str, Lane], deque[int]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))  # tokens of each


def prepare(settings: Settings, catalogue: Catalogue) -> None:
    """Every series whose labels are known, at 0."""
    _sources.update((name, spec.source or name) for name, spec in catalogue.models.items())
    models = list(catalogue.models)
    _dedupe.preset(_DECISIONS)
    _limited.preset(sorted(_MEASURES))
    _unrouted.preset(_REFUSALS)
    _admitted.preset(models, LANES, ["named", *(rule.name for rule in catalogue.rules)])
    _admitted_tokens.preset(models, LANES)
    _requests.preset([*models, ""], LANES, Outcome)
    for family in (_cost, _waste, _waste_tokens):
        family.preset(models)
    for name, spec in catalogue.models.items():
        engine = [spec.engine or settings.worker_engine]
        _usage.preset(OPERATIONS, engine, [name], [_sources[name]], ("input", "output"))


def decided(decision: str) -> None:
    """Of dedupe, about a request."""
    _dedupe[decision].inc()


def admitted(model: str, lane: Lane, rule: str, tokens: int) -> None:
    _admitted[model, lane, rule].inc()
    _admitted_tokens[model, lane].inc(tokens)
    recent[model, lane].append(tokens)


def refused(code: str, param: str) -> None:
    """By a limit, whose figure `param` names, or since no model can serve it."""
    if param in _MEASURES:
        _limited[param].inc()
    elif code != "rate_limit_exceeded":  # decided before, and told again
        _unrouted[code].inc()


def ended(event: UsageEvent) -> None:
    """A request, or a run that was in vain."""
    tokens = event.prompt_tokens + event.completion_tokens
    if event.kind is UsageKind.WASTE:
        _waste[event.model].inc()
        _waste_tokens[event.model].inc(tokens)
    elif event.kind is UsageKind.USAGE:
        _requests[event.model, event.lane, event.outcome].inc()
        if event.outcome.billed and event.model:
            _cost[event.model].observe(event.cost_nano / NANO)
            model = (event.operation, event.engine, event.model, _sources.get(event.model, event.model))
            _usage[(*model, "input")].observe(event.prompt_tokens)
            _usage[(*model, "output")].observe(event.completion_tokens)


class StageMetrics:
    """Of one stage."""

    def __init__(self, name: str, poison: PoisonLimit) -> None:
        self.records = counters(STAGE_RECORDS)[name]
        self.failures = counters(STAGE_FAILURES)[name]
        self.dead_letters = counters(DEAD_LETTERS)[name]
        ratio = gauges(POISON)[name]
        before_scrape(f"poison of {name}", lambda: ratio.set(poison.ratio))


def tell_tables(tables: Tables, names: Iterable[str], folder: Path) -> None:
    """At each scrape: what this process owns, and the room that is left for it."""
    owned = {name: gauges(PARTITIONS)[name] for name in names}
    free = gauges(DISK_FREE)["streams"]

    def tell() -> None:
        for name, gauge in owned.items():
            gauge.set(len(tables.own(name)))
        free.set(shutil.disk_usage(folder).free)

    before_scrape("tables", tell)
