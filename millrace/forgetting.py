"""Forget a person: stored answers first, by a record to the owner of each key, then the ledger."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from ulid import ULID

from analytics.clickhouse import Client
from analytics.forget import forget
from analytics.ledger import Ledger
from analytics.questions import utc_ms
from contracts.envelope import Envelope, RequestType
from contracts.errors import StackError
from contracts.kafka import producer_options
from contracts.keys import RequestKey, check_tenant
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.ledger_client import ledger
from millrace.load_settings import load_connected_settings
from millrace.maintenance_client import MaintenanceClient

_KEYS = """
SELECT DISTINCT idempotency_key FROM usage
WHERE tenant = {tenant:String} AND user = {user:String} AND kind = 'usage'
    AND accepted_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
"""
_TABLES_HOURS = 24  # how long after its window an entry may be in the tables, and in their changelog


@dataclass(frozen=True, slots=True)
class Forgot:
    """`rows` by table of the ledger; `stays`: what Kafka holds of it, and until when at the latest."""

    answers: int
    rows: dict[str, int]
    stays: list[tuple[str, datetime | None]]


async def forget_person(data_dir: Path | None, tenant: str, user: str) -> Forgot:
    """Raises InvalidRequest, StackError, LedgerError."""
    check_tenant(tenant)
    settings = load_connected_settings(data_dir)
    now = datetime.now(UTC)
    with ledger(data_dir) as client:
        keys = _stored_keys(client, tenant, user, now - timedelta(hours=_held_hours(settings)))
    await _forget_answers(settings, [RequestKey(tenant, key) for key in keys])
    rows = await _forget_rows(settings, data_dir, tenant, user)
    return Forgot(len(keys), rows, _stays(settings, now))


def _stored_keys(client: Client, tenant: str, user: str, since: datetime) -> list[str]:
    asked = {"tenant": tenant, "user": user, "since": utc_ms(since)}
    return [key for (key,) in client.query(_KEYS, parameters=asked).result_rows]


async def _forget_answers(settings: Settings, keys: list[RequestKey]) -> None:
    topic = Topics.of(settings).requests
    try:
        async with AIOKafkaProducer(**producer_options(settings)) as producer:
            orders = [
                await producer.send(topic, b"", key=key.encode(), headers=_order(key).to_headers()) for key in keys
            ]
            await asyncio.gather(*orders)
    except KafkaError as error:
        raise StackError("Kafka doesn't take the orders: nothing is forgotten yet; do it once more.") from error


def _order(key: RequestKey) -> Envelope:
    return Envelope(ce_id=str(ULID()), ce_source="/cli", ce_type=RequestType.FORGET, tenant=key.tenant)


async def _forget_rows(settings: Settings, data_dir: Path | None, tenant: str, user: str) -> dict[str, int]:
    """Analytics holds the embedded engine, so it must do it; on a server anybody with the password can."""
    if not settings.clickhouse_url:
        return await MaintenanceClient.of(settings, data_dir).forget(tenant, user)
    with ThreadPoolExecutor(1, "ledger") as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, _on_server, settings, tenant, user)


def _on_server(settings: Settings, tenant: str, user: str) -> dict[str, int]:
    writer = Ledger.open(settings)
    try:
        return forget(writer.client, tenant, user)
    finally:
        writer.close()


def _held_hours(settings: Settings) -> int:
    return settings.idempotency_window_hours + _TABLES_HOURS


def _stays(settings: Settings, now: datetime) -> list[tuple[str, datetime | None]]:
    topics = Topics.of(settings)
    logs = (topics.requests, topics.admitted, "work.…", topics.completions, topics.usage)
    return [
        ("requests, answers and usage on " + ", ".join(logs), now + timedelta(hours=settings.retention_hours)),
        (f"frames on {topics.responses}", now + timedelta(minutes=settings.response_retention_minutes)),
        ("stored answers in the changelog of the tables", now + timedelta(hours=_held_hours(settings))),
        (f"what rests on {topics.dead_letters}: see `millrace dlq list`", None),
        ("the counters of limits on this user: tokens and money, no texts", None),
    ]
