"""Gathers what the books are balanced from, once nothing moves any more."""

import asyncio
import time

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from contracts.completion import Completion
from contracts.frames import Frame, FrameKind
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageEvent
from tests.chaos.answers import Told
from tests.chaos.books import Evidence, Row, Run
from tests.support.audit import read_all

_ROWS = """SELECT tenant || ':' || idempotency_key, event_id, kind, prompt_tokens, completion_tokens, cost_nano
FROM usage"""
_SETTLED_SECONDS = 90.0
_LOOK_SECONDS = 1.0


async def gather(settings: Settings, ledger_url: str, told: list[Told]) -> Evidence:
    """Waits until the ledger has every usage event; what is missing after 90 s is a finding, not an error."""
    evidence = await _from_kafka(settings, told)
    events = {event_id for events in evidence.events.values() for event_id in events}
    deadline = time.monotonic() + _SETTLED_SECONDS
    while not await _read_ledger(evidence, ledger_url, len(events)) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
    return evidence


async def _read_ledger(evidence: Evidence, url: str, enough: int) -> bool:
    """Whether it has as many rows as that."""
    try:
        rows = await asyncio.to_thread(_rows, url)
    except (ClickHouseError, OSError) as error:
        evidence.unreadable = str(error)[:500]
        return False
    evidence.unreadable = ""
    evidence.rows.clear()
    for key, row in rows:
        evidence.rows[key].append(row)
    return len(rows) >= enough


async def _from_kafka(settings: Settings, told: list[Told]) -> Evidence:
    bootstrap, topics = settings.kafka_bootstrap_servers, Topics.of(settings)
    evidence = Evidence(told=told)
    evidence.accepted = {record.key.decode() for record in await read_all(bootstrap, topics.requests)}
    for record in await read_all(bootstrap, topics.completions):
        ended = Completion.from_headers(record.headers)
        claim = dict(record.headers)["claim"].decode()
        evidence.runs[record.key.decode()].append(Run(claim, ended.run, ended.completion_tokens))
    for record in await read_all(bootstrap, topics.responses):
        if Frame.from_headers(record.headers).kind is FrameKind.FINAL:
            evidence.finals[record.key.decode()].add(record.value)
    for record in await read_all(bootstrap, topics.usage):
        evidence.add_event(UsageEvent.model_validate_json(record.value))
    return evidence


def _rows(ledger_url: str) -> list[tuple[str, Row]]:
    client = clickhouse_connect.get_client(dsn=ledger_url, database="millrace")
    try:
        return [(str(key), Row(*row)) for key, *row in client.query(_ROWS).result_rows]
    finally:
        client.close()


async def quiet(settings: Settings) -> None:
    """Returns when no usage event has come for two looks in a row."""
    bootstrap, usage = settings.kafka_bootstrap_servers, Topics.of(settings).usage
    before, still = -1, 0
    while still < 2:
        now = len(await read_all(bootstrap, usage))
        still = still + 1 if now == before else 0
        before = now
        await asyncio.sleep(_LOOK_SECONDS)
