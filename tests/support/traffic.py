"""Requests that have passed, as the log has them."""

from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from contracts.bodies import describe
from contracts.envelope import Admitted
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageEvent

AT = 1_790_000_000_000  # UTC ms
EASY, HARD = (
    "Where is my order?",
    "Prove step by step that the integral of x^2 is x^3/3, then compare both proofs in detail",
)


def admitted(content: str = EASY, key: str = "acme:k", model: str = "auto") -> tuple[Admitted, bytes]:
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": content}]})
    digest = describe(body).digest.model_dump()
    return Admitted(**digest, request_key=key, claim="0.0", accepted_at=AT, deduped_at=AT), body


async def run_through(settings: Settings, count: int) -> None:
    """As the log has requests that ended; one was refused, and one comes twice."""
    topics = Topics.of(settings)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for number in range(count):
            request, body = admitted(HARD if number % 2 else EASY, f"acme:k{number}")
            request = request.model_copy(update={"claim": f"0.{number}"})
            for _ in range(2 if number == 0 else 1):
                await producer.send(topics.admitted, body, key=b"acme", headers=request.to_headers())
            outcome = Outcome.REJECTED if number == 1 else Outcome.SUCCEEDED
            event = usage(request, outcome)
            await producer.send(topics.usage, event.model_dump_json().encode(), key=b"acme")


def usage(request: Admitted, outcome: Outcome) -> UsageEvent:
    key = request.request_key.partition(":")[2]
    fields: dict[str, Any] = {"operation": "chat", "requested_model": "auto", "model": "small", "outcome": outcome}
    times = dict.fromkeys(("event_time", "accepted_at", "deduped_at", "finished_at"), AT)
    tokens = {"prompt_tokens": 30, "completion_tokens": 50, "cost_nano": 7}
    identity = {"event_id": key, "tenant": "acme", "idempotency_key": key, "claim": request.claim, "status": 200}
    return UsageEvent.model_validate(fields | times | tokens | identity)
