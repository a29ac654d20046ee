"""The dashboard as it runs: within the analytics service, or alone (`millrace dashboard`)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from aiokafka.errors import KafkaError

from analytics.dashboard.app import dashboard_app
from analytics.dashboard.desk import Desk
from analytics.dashboard.flow import Flow
from analytics.dashboard.live import Live, Source
from analytics.dashboard.news import LedgerNews
from analytics.dashboard.reading import Reading
from analytics.dashboard.session import Sessions
from analytics.dashboard.view import House, View
from analytics.dashboard.views import VIEWS
from contracts.compacted import Follower, Records
from contracts.errors import StackError
from contracts.http_server import bind, serving
from contracts.keyring import KeyRing
from contracts.pause import pause
from contracts.settings import Settings
from contracts.topics import Topics

_log = structlog.get_logger()
_RETRY_SECONDS = 2.0
_PATIENCE_SECONDS = 3  # for a page that doesn't read what it is sent


async def run(settings: Settings, *, stop: asyncio.Event, desk: Desk | None = None) -> None:
    """Serves until told to stop, as soon as Kafka gives the API keys. Raises StackError when the port is taken."""
    ring = KeyRing()
    while not stop.is_set():
        try:
            async with (
                Follower(settings, Topics.of(settings).api_keys, lambda records: hear(ring, records)),
                dashboard(settings, ring, desk) as port,
            ):
                _log.info("dashboard open", url=f"http://{settings.dashboard_host}:{port}")
                await stop.wait()
        except (KafkaError, OSError) as error:
            _log.warning("the dashboard waits for Kafka", error=str(error))
            await pause(_RETRY_SECONDS, stop)


@asynccontextmanager
async def beside(settings: Settings, desk: Desk | None) -> AsyncIterator[None]:
    """Beside a service, which never fails because nobody can watch it."""
    stop = asyncio.Event()
    running = asyncio.create_task(_tolerated(settings, stop, desk), name="dashboard")
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait({running}, timeout=_PATIENCE_SECONDS + 2)
        running.cancel()
        await asyncio.wait({running})


async def _tolerated(settings: Settings, stop: asyncio.Event, desk: Desk | None) -> None:
    if not settings.dashboard:
        return
    try:
        await run(settings, stop=stop, desk=desk)
    except StackError as error:
        _log.warning("no dashboard", reason=error.message)


@asynccontextmanager
async def dashboard(
    settings: Settings, ring: KeyRing, desk: Desk | None, views: Sequence[View] = VIEWS
) -> AsyncIterator[int]:
    """Gives its port. Raises StackError when it can't be had."""
    reading = Reading(settings)
    sessions = Sessions(settings, ring)
    flow = Flow(settings, reading)
    live = Live(
        [
            Source("ledger", 1.0, LedgerNews(reading).look),
            Source("flow", 2.0, flow.look, operators_only=True, rest=flow.close),
        ],
        sessions,
    )
    app = dashboard_app(House(settings, reading, flow, desk), sessions, live, views)
    try:
        listener = bind(settings.dashboard_host, settings.dashboard_port, "DASHBOARD")
        async with serving(app, listener, timeout_graceful_shutdown=_PATIENCE_SECONDS) as server:
            try:
                yield server.port
            finally:
                live.close()
    finally:
        await flow.close()
        await reading.close()


def hear(ring: KeyRing, records: Records) -> None:
    ring.apply([_KeyRecord(key, value) for key, value in records])


class _KeyRecord(NamedTuple):
    key: bytes | None
    value: bytes | None
