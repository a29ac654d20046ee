"""Usage events as settle would write them, the same for the same seed."""

import random
from collections.abc import Sequence

from aiokafka import ConsumerRecord

from contracts.outcomes import Outcome
from contracts.usage import UsageEvent, UsageKind, event_id

START_MS = 1_760_000_000_123  # 2025-10-09T08:53:20.123Z


def make_events(count: int, seed: int = 0, *, start: int = START_MS, step_ms: int = 7) -> list[UsageEvent]:
    rng = random.Random(seed)
    return [_event(rng, number, seed, start + number * step_ms) for number in range(count)]


def as_waste(event: UsageEvent) -> UsageEvent:
    """A second run of the same request, after a crash."""
    again = event_id(f"{event.tenant}:{event.idempotency_key}", event.claim, "0.99")
    return event.model_copy(
        update={"event_id": again, "kind": UsageKind.WASTE, "cost_nano": 0, "event_time": event.event_time + 31}
    )


def as_values(events: Sequence[UsageEvent]) -> list[bytes]:
    return [event.model_dump_json().encode() for event in events]


def as_records(values: Sequence[bytes | None], *, partition: int = 0, first_offset: int = 0) -> list[ConsumerRecord]:
    return [
        ConsumerRecord("usage", partition, offset, 0, 0, b"tenant", value, None, 0, 0, ())
        for offset, value in enumerate(values, first_offset)
    ]


def _event(rng: random.Random, number: int, seed: int, accepted_at: int) -> UsageEvent:
    tenant, key, claim = f"tenant-{rng.randrange(7)}", f"key-{seed}-{number:07d}", f"{number % 8}.{number}"
    outcome = rng.choice(list(Outcome)) if rng.random() < 0.2 else Outcome.SUCCEEDED
    ran = outcome not in (Outcome.REJECTED, Outcome.EXPIRED)
    model = rng.choice(["small", "large"]) if ran else ""
    return UsageEvent(
        event_id=event_id(f"{tenant}:{key}", claim),
        event_time=accepted_at + 900,
        tenant=tenant,
        idempotency_key=key,
        claim=claim,
        user=f"Zoë {rng.randrange(20)}" if rng.random() < 0.9 else "",
        feature=rng.choice(["chat", "search", 'it\'s \\ odd\n\t"one"']),
        tags={"team": "search", "naïve": "ünïcode"} if number % 2 else {},
        api_key_id=f"mk_{rng.randrange(5)}",
        operation="chat",
        requested_model="auto",
        model=model,
        model_version="2.5" if ran else "",
        engine="synthetic" if ran else "",
        worker=f"w-{rng.randrange(3)}" if ran else "",
        run=f"run-{number}" if ran else "",
        lane=rng.choice(["interactive", "batch"]),
        route="simple" if ran else "",
        router_version="2026-11-22" if ran else "",
        complexity=round(rng.random(), 3),
        outcome=outcome,
        status=200 if outcome is Outcome.SUCCEEDED else 429,
        finish_reason="stop" if ran else "",
        streamed=bool(number % 3),
        prompt_tokens=rng.randrange(5000) if ran else 0,
        cached_tokens=rng.randrange(10) if ran else 0,
        completion_tokens=rng.randrange(1000) if ran else 0,
        reserved_tokens=6000,
        accepted_at=accepted_at,
        deduped_at=accepted_at + 4,
        admitted_at=accepted_at + 8 if ran else None,
        started_at=accepted_at + 11 if ran else None,
        first_token_at=accepted_at + 53 if ran else None,
        finished_at=accepted_at + 880,
        engine_us=rng.randrange(10**6) if ran else 0,
        price_version="2026-11-22" if outcome.billed else "",
        cost_nano=rng.randrange(10**9) if outcome.billed else 0,
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
