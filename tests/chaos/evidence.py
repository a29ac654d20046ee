"""Gathers what the books are balanced from, once nothing moves any more."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import clickhouse_connect
from aiokafka import ConsumerRecord
from clickhouse_connect.driver.exceptions import ClickHouseError

from contracts.catalogue import load_catalogue
from contracts.completion import Execution
from contracts.errors import StackError
from contracts.frames import Frame, FrameKind
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from contracts.usage import UsageEvent
from tests.chaos.answers import Deletion, Told
from tests.chaos.books import Evidence, Row, Run, Span
from tests.chaos.limits import Meters
from tests.chaos.spending import unlike_the_meters
from tests.support.audit import read_all

_ROWS = """SELECT tenant || ':' || idempotency_key, event_id, kind, prompt_tokens, completion_tokens, cost_nano
FROM usage"""
_SETTLED_SECONDS = 90.0
_LOOK_SECONDS = 1.0
_METERS_SECONDS = 30.0


class Heard(NamedTuple):
    """What the load knows. `off`: from when to when clocks may have been wrong (monotonic, seconds)."""

    told: list[Told]
    deletions: list[Deletion]
    off: Sequence[tuple[float, float]] = ()


async def gather(settings: Settings, ledger_url: str, heard: Heard) -> Evidence:
    """Waits until the ledger has every usage event; what is missing after 90 s is a finding, not an error."""
    evidence = await _from_kafka(settings, heard)
    events = {event_id for events in evidence.events.values() for event_id in events}
    deadline = time.monotonic() + _SETTLED_SECONDS
    while not await _read_ledger(evidence, ledger_url, len(events)) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
    await _ask_meters(settings, evidence)
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


async def _ask_meters(settings: Settings, evidence: Evidence) -> None:
    """They may be a moment behind the bills. What they say last is what counts."""
    deadline = time.monotonic() + _METERS_SECONDS
    while True:
        try:
            evidence.meters = await Meters.ask(settings)
        except StackError as error:
            evidence.unasked = error.message
        else:
            evidence.unasked = ""
        agree = not (evidence.unasked or any(unlike_the_meters(evidence)))
        if agree or time.monotonic() > deadline:
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _from_kafka(settings: Settings, heard: Heard) -> Evidence:
    bootstrap, topics = settings.kafka_bootstrap_servers, Topics.of(settings)
    evidence = Evidence(told=heard.told, deletions=heard.deletions)
    requests = await read_all(bootstrap, topics.requests)
    evidence.accepted = {record.key.decode() for record in requests if record.value}  # others ask about one
    for record in await read_all(bootstrap, topics.completions):
        ended = Execution.from_headers(record.headers)
        evidence.runs[record.key.decode()].append(Run(_claim(record), ended.run, ended.completion_tokens))
    for record in await read_all(bootstrap, topics.responses):
        _take_frame(evidence, record)
    usage = await read_all(bootstrap, topics.usage)
    for record in usage:
        evidence.add_event(UsageEvent.model_validate_json(record.value))
    work = [topics.work(model, lane) for model in load_catalogue(settings.routes_file).models for lane in LANES]
    let_through = [record for topic in work for record in await read_all(bootstrap, topic)]
    evidence.spans = [*_spans(let_through, usage, heard)]
    return evidence


def _take_frame(evidence: Evidence, record: ConsumerRecord) -> None:
    frame, key = Frame.from_headers(record.headers), (record.key or b"").decode()
    if frame.kind is FrameKind.FINAL:
        evidence.finals[key].add(record.value)
    elif frame.kind is FrameKind.ERROR:
        evidence.refusals[key].add(frame.status)


def _spans(work: Iterable[ConsumerRecord], usage: Iterable[ConsumerRecord], heard: Heard) -> Iterator[Span]:
    """From when a request was let through until it had ended, as far as both the log's clocks and the client's bear it
    out. A client's clock is this process' own; where others were off, nothing is said."""
    boot_ms = (time.time() - time.monotonic()) * 1000
    asked = {told.ask.key: told for told in reversed(heard.told)}
    ends = _earliest((_event_key(record), record.timestamp) for record in usage)
    begins = _earliest(((record.key.decode(), _claim(record)), record.timestamp) for record in work)
    for (key, claim), began in begins.items():
        told, ended = asked.get(key), ends.get((key, claim))
        if told is None or ended is None or told.answered_at is None or _is_off(told, heard.off):
            continue
        first, last = (boot_ms + 1000 * at for at in (told.asked_at, told.answered_at))
        yield Span(key, max(began, first), min(ended, last))


def _is_off(told: Told, off: Sequence[tuple[float, float]]) -> bool:
    answered_at = told.answered_at or told.asked_at
    return any(told.asked_at < ended and answered_at > began for began, ended in off)


def _earliest(times: Iterable[tuple[tuple[str, str], int]]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for name, at in times:
        found[name] = min(at, found.get(name, at))
    return found


def _event_key(record: ConsumerRecord) -> tuple[str, str]:
    event = UsageEvent.model_validate_json(record.value)
    return f"{event.tenant}:{event.idempotency_key}", event.claim


def _claim(record: ConsumerRecord) -> str:
    claim: bytes = dict(record.headers)["claim"]
    return claim.decode()


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
