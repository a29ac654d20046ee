"""Adjustments and credits: usage events that correct the ledger without touching a row, written to `usage` like any."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from ulid import ULID

from analytics.clickhouse import Client
from analytics.questions import utc_ms
from analytics.reports import request_rows
from analytics.reprice import about
from contracts.errors import InvalidRequest, StackError
from contracts.kafka import producer_options
from contracts.keys import check_tenant
from contracts.outcomes import Outcome
from contracts.prices import NANO
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageEvent, UsageKind, event_id

_AT_ONCE = 5_000  # records on their way
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.2
_THERE = "SELECT count() FROM usage WHERE kind = {kind:String} AND event_id IN ({ids:Array(String)})"
_MOST_IDS = 1_000


def parse_dollars(text: str) -> int:
    """Nano-dollars. Raises InvalidRequest."""
    try:
        nano = Decimal(text) * NANO
    except InvalidOperation:
        raise InvalidRequest(f"{text!r} is no number of dollars.", param="amount") from None
    if not nano.is_finite() or nano != nano.to_integral_value() or not 0 < abs(nano) < 2**63:
        raise InvalidRequest("An amount is a whole number of nano-dollars, and not 0.", param="amount")
    return int(nano)


def credit(client: Client, tenant: str, nano: int, reason: str, key: str, now: datetime) -> UsageEvent:
    """Gives the tenant so much (a negative amount takes it), on account of one of its requests when `key` is given.
    Raises InvalidRequest, ClickHouseError."""
    name, at = str(ULID()), utc_ms(now)
    return UsageEvent(
        **_request(client, check_tenant(tenant), key, name),
        event_id=event_id(f"{tenant}:{name}", "credit"),
        event_time=at,
        kind=UsageKind.CREDIT,
        accepted_at=at,
        deduped_at=at,
        finished_at=at,
        cost_nano=-nano,
        reason=reason,
    )


def _request(client: Client, tenant: str, key: str, name: str) -> dict[str, Any]:
    if not key:
        nothing = {"operation": "", "requested_model": "", "outcome": Outcome.SUCCEEDED, "status": 200}
        return nothing | {"tenant": tenant, "idempotency_key": name, "claim": "credit"}
    rows = [row for row in request_rows(client, key, tenant) if row["kind"] == UsageKind.USAGE]
    if not rows:
        raise InvalidRequest(f"The ledger has no request {key} of tenant {tenant}.", param="key")
    return about(rows[-1])


async def publish(settings: Settings, events: Iterable[UsageEvent]) -> list[UsageEvent]:
    """Returns once Kafka has them all: the last ones of them. Raises StackError."""
    topic = Topics.of(settings).usage
    sent: list[UsageEvent] = []
    try:
        async with AIOKafkaProducer(**producer_options(settings)) as producer:
            batch = []
            for event in events:
                value = event.model_dump_json().encode()
                batch.append(await producer.send(topic, value, key=event.tenant.encode()))
                sent = [*sent[-_MOST_IDS + 1 :], event]
                if len(batch) >= _AT_ONCE:
                    await asyncio.gather(*batch)
                    batch.clear()
            await asyncio.gather(*batch)
    except KafkaError as error:
        raise StackError("Kafka did not take them all: do it once more, what is there already counts once.") from error
    return sent


async def until_stored(client: Client, events: Sequence[UsageEvent]) -> bool:
    """Whether the ledger has them after some patience; of one kind each time."""
    ids = [event.event_id for event in events]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while ids and time.monotonic() < deadline:
        asked = {"kind": events[0].kind.value, "ids": ids}
        found = await asyncio.to_thread(client.query, _THERE, parameters=asked)
        if found.result_rows[0][0] >= len(ids):
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return not ids
