"""A month of a small company's ledger, the same for the same `now`: days and nights, weekends, a new feature,
an afternoon on which the queue was long, a new version of a model, feedback, an adjustment and a credit.

Costs are the shipped price table's, to the nano-dollar.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.outcomes import Outcome
from contracts.prices import load_prices
from contracts.usage import UsageEvent, UsageKind, adjustment_id, event_id
from tests.support.usage import as_records, as_values, as_waste

DAYS = 35
PRICES = load_prices()
THRESHOLD = 0.4  # of the shipped policy
_STEP = 5_000  # events in one insert


class Feature(NamedTuple):
    """What one tenant uses it for. Tokens are medians; `complexity` is the mean score."""

    tenant: str
    name: str
    users: int
    daily: int  # requests on a working day
    prompt: int
    answer: int
    complexity: float
    batch: bool = False
    since_day: int = 0


FEATURES = (
    Feature("acme", "support-chat", 40, 110, 2_400, 320, 0.30),
    Feature("acme", "contract-review", 9, 14, 38_000, 1_900, 0.58),
    Feature("acme", "ticket-triage", 6, 60, 900, 40, 0.18, batch=True),
    Feature("globex", "code-assistant", 24, 70, 6_500, 700, 0.46),
    Feature("globex", "release-notes", 5, 8, 11_000, 900, 0.40, batch=True, since_day=19),
    Feature("initech", "search-answers", 60, 80, 1_700, 180, 0.27),
    Feature("initech", "nightly-report", 2, 10, 24_000, 1_200, 0.44, batch=True),
    Feature("northwind", "", 12, 18, 3_200, 400, 0.35),
)
NAMES = (
    "ann",
    "ben",
    "chloé",
    "dev",
    "eve",
    "finn",
    "gita",
    "hugo",
    "ines",
    "jun",
    "kai",
    "lea",
    "mia",
    "noor",
    "omar",
)


@dataclass(frozen=True, slots=True)
class DemoLedger:
    """What was put in."""

    now: datetime
    events: list[UsageEvent]
    scores: dict[tuple[str, str], float]  # by tenant and key


def fill(ledger: Ledger, now: datetime) -> DemoLedger:
    """Blocking."""
    demo = make(now)
    for start in range(0, len(demo.events), _STEP):
        part = demo.events[start : start + _STEP]
        assert take_in(ledger, as_records(as_values(part), first_offset=start)) == []
    rows = [(*key, score, "", now, 0, offset) for offset, (key, score) in enumerate(demo.scores.items())]
    columns = ("tenant", "idempotency_key", "score", "label", "given_at", "partition", "offset")
    ledger.client.insert("feedback", rows, column_names=columns)
    return demo


def make(now: datetime) -> DemoLedger:
    rng = random.Random(20261123)
    first = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    requests = sorted(_requests(rng, first, now), key=lambda event: event.event_time)
    waste = [as_waste(event) for event in requests if event.model and rng.random() < 0.004]
    billed = [event for event in requests if event.cost_nano]
    corrections = [_adjustment(billed[len(billed) // 2]), _credit(billed[len(billed) // 3])]
    judged = [event for event in requests if event.outcome is Outcome.SUCCEEDED and rng.random() < 0.08]
    scores = {(event.tenant, event.idempotency_key): _score(rng, event) for event in judged}
    return DemoLedger(now, [*requests, *waste, *corrections], scores)


def _requests(rng: random.Random, first: datetime, now: datetime) -> Iterator[UsageEvent]:
    for day in range(DAYS):
        for feature in FEATURES:
            for number in range(_daily(rng, feature, day, first)):
                at = first + timedelta(days=day, seconds=_second(rng, feature))
                event = _request(rng, feature, f"{feature.name or 'req'}-{day:02d}-{number:04d}", at, day)
                if event.event_time < now.timestamp() * 1000:
                    yield event


def _daily(rng: random.Random, feature: Feature, day: int, first: datetime) -> int:
    if day < feature.since_day:
        return 0
    weekend = (first + timedelta(days=day)).weekday() >= 5
    growth = 0.8 + 0.4 * day / DAYS
    return round(feature.daily * growth * (0.35 if weekend else 1) * rng.uniform(0.85, 1.15))


def _second(rng: random.Random, feature: Feature) -> float:
    """People work by day, reports are written at two in the morning."""
    hour = rng.gauss(2.5, 0.6) if feature.batch else rng.gauss(13.5, 3.2)
    return hour % 24 * 3600


def _request(rng: random.Random, feature: Feature, key: str, at: datetime, day: int) -> UsageEvent:
    accepted = round(at.timestamp() * 1000)
    complexity = round(min(0.999, rng.betavariate(6 * feature.complexity, 6 * (1 - feature.complexity))), 4)
    asked = rng.choices(["auto", "auto:cheap", "large"], [86, 4, 10])[0]
    model = {"auto:cheap": "small", "large": "large"}.get(asked, "small" if complexity <= THRESHOLD else "large")
    outcome = rng.choices(list(OUTCOMES), list(OUTCOMES.values()))[0]
    ran = outcome not in (Outcome.REJECTED, Outcome.EXPIRED)
    route = {"auto": "simple" if model == "small" else "complex", "auto:cheap": "cheapest"}.get(asked, "")
    name, claim = f"{feature.tenant}:{key}", f"{rng.randrange(8)}.{accepted % 10**9}"
    facts = _run(rng, feature, model, accepted, day) if ran else {"finished_at": accepted + 9}
    version = facts.get("model_version", "")
    event = UsageEvent(
        event_id=event_id(name, claim),
        event_time=facts["finished_at"] + 3,
        tenant=feature.tenant,
        idempotency_key=key,
        claim=claim,
        user=_user(rng, feature),
        feature=feature.name,
        tags={"team": "platform" if feature.batch else "product"},
        api_key_id=f"mk_{feature.tenant}",
        operation="chat",
        requested_model=asked,
        lane="batch" if feature.batch else "interactive",
        route=route if ran else "",
        router_version="2026-11-22.3+370031e9/learned-c8c9d66f" if ran else "",
        complexity=complexity if ran else 0.0,
        outcome=outcome,
        status=STATUS.get(outcome, 500),
        streamed=not feature.batch,
        accepted_at=accepted,
        deduped_at=accepted + 3,
        trace_id=f"{rng.getrandbits(128):032x}",
        **facts,
    )
    if not outcome.billed:
        return event
    price = PRICES.find(event.model, version, event.event_time)
    assert price
    cost = price.cost(event.prompt_tokens, event.cached_tokens, event.completion_tokens)
    return event.model_copy(update={"cost_nano": cost, "price_version": PRICES.version})


OUTCOMES = {
    Outcome.SUCCEEDED: 962,
    Outcome.CANCELLED: 14,
    Outcome.FAILED: 9,
    Outcome.REJECTED: 8,
    Outcome.TIMED_OUT: 4,
    Outcome.EXPIRED: 3,
}
STATUS = {Outcome.SUCCEEDED: 200, Outcome.CANCELLED: 499, Outcome.REJECTED: 429, Outcome.TIMED_OUT: 504}


def _run(rng: random.Random, feature: Feature, model: str, accepted: int, day: int) -> dict[str, object]:
    """What it took. On one afternoon the large model's queue was long."""
    prompt = max(20, round(feature.prompt * rng.lognormvariate(0, 0.5)))
    answer = max(1, round(feature.answer * rng.lognormvariate(0, 0.6)))
    hour = accepted // 3_600_000 % 24
    crowd = 40 if model == "large" and day == DAYS - 6 and 14 <= hour < 17 else 1
    crowd *= 6 if feature.batch else 1
    queue = round(crowd * rng.lognormvariate(math.log(18), 0.7))
    prefill = prompt * (0.012 if model == "large" else 0.003)
    first = 20 + prefill * rng.uniform(0.9, 1.3)
    gap = rng.lognormvariate(math.log(19 if model == "large" else 8), 0.15)
    started = accepted + 9 + queue
    finished = started + round(first + gap * (answer - 1))
    return {
        "model": model,
        "model_version": "2.5" if model == "large" or day < 21 else "2.6",
        "engine": "vllm",
        "worker": f"w-{rng.randrange(3)}",
        "run": f"{rng.getrandbits(40):010x}",
        "finish_reason": "stop",
        "prompt_tokens": prompt,
        "cached_tokens": round(prompt * rng.choice([0, 0, 0.4, 0.8])),
        "completion_tokens": answer,
        "reserved_tokens": prompt + 600,
        "admitted_at": accepted + 9,
        "started_at": started,
        "first_token_at": started + round(first),
        "finished_at": finished,
        "engine_us": (finished - started) * 1000,
    }


def _user(rng: random.Random, feature: Feature) -> str:
    """A few do most."""
    number = min(feature.users - 1, int(rng.expovariate(4 / feature.users)))
    if not feature.name and number % 3 == 0:
        return ""
    return NAMES[number % len(NAMES)] + (f"-{number // len(NAMES) + 1}" if number >= len(NAMES) else "")


def _score(rng: random.Random, event: UsageEvent) -> float:
    """The small model does worse on what is hard."""
    right = 0.93 if event.model == "large" else 0.95 - 0.45 * event.complexity
    return 1.0 if rng.random() < right else rng.choice([0.0, 0.0, 0.2])


_NOTHING = {
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "completion_tokens": 0,
    "reserved_tokens": 0,
    "admitted_at": None,
    "started_at": None,
    "first_token_at": None,
    "engine_us": 0,
}


def _adjustment(event: UsageEvent) -> UsageEvent:
    return event.model_copy(
        update=_NOTHING
        | {
            "event_id": adjustment_id(event.event_id, 0),
            "kind": UsageKind.ADJUSTMENT,
            "about": event.event_id,
            "cost_nano": -event.cost_nano // 2,
            "reason": "Prices of November",
        }
    )


def _credit(event: UsageEvent) -> UsageEvent:
    return event.model_copy(
        update=_NOTHING
        | {
            "event_id": adjustment_id(event.event_id, 99),
            "kind": UsageKind.CREDIT,
            "about": "",
            "operation": "",
            "cost_nano": -750_000_000,
            "reason": "Outage of the week before",
        }
    )
