"""The Faust app: one agent per stage, and the guards without which Faust loses its way.

It must not fetch while it seeks (here), must not forget what was acknowledged when partitions are taken away
(faust_consumer.py), and must not stand still unnoticed (watchdog.py).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.app.base import BootStrategy
from faust.types import AppT, StreamT

from contracts.settings import Settings
from contracts.topics import Topics
from streams.carrier import Carrier
from streams.errors import Fatal
from streams.faust_consumer import transport_for
from streams.stage import Stage

EXIT_FATAL = 3
_log = structlog.get_logger()


def die(error: BaseException) -> None:
    """At once, without any clean-up that could acknowledge what isn't done: the next start reads it again."""
    ours = isinstance(error, Fatal)
    _log.critical(
        "streams end at once",
        error=str(error) if ours else type(error).__name__,  # another's words may quote a prompt
        exc_info=None if ours else error,
    )
    os._exit(EXIT_FATAL)


class _Boot(BootStrategy):  # type: ignore[misc]
    enable_kafka_producer = False  # the outbox has its own, an idempotent one
    enable_web = False


def build_app(
    settings: Settings,
    folder: Path,
    before_revoked: Callable[[], Awaitable[None]],
    after_assigned: Callable[[], Awaitable[None]],
) -> AppT:
    """`before_revoked` returns when nothing is under way; `after_assigned` when the partitions' tables are ready."""
    transport = transport_for(settings, before_revoked)

    class App(faust.App):  # type: ignore[misc]
        BootStrategy = _Boot

        def _new_transport(self) -> Any:
            return transport(self.conf.broker_consumer, self)

    app = App(
        Topics.of(settings).streams_app,
        broker=f"kafka://{settings.kafka_bootstrap_servers.partition(',')[0]}",
        datadir=str(folder / "faust"),
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        table_standby_replicas=0,
        broker_commit_interval=1,
        broker_request_timeout=30,
        broker_rebalance_timeout=20,
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=5000,
        stream_buffer_maxsize=settings.streams_batch_size * 4,
    )

    async def ready(app: AppT, **_: Any) -> None:
        """Faust seeks next, and then clears queues that its fetcher may have filled meanwhile: it must stop first."""
        app.consumer.stop_flow()
        await app.consumer.wait_for_stopped_flow()
        try:
            await after_assigned()
        except Exception as error:  # noqa: BLE001 - Faust would go on with tables that aren't there
            die(error)

    app.on_rebalance_complete.connect(ready)
    return app


def add_agents(app: AppT, carriers: Iterable[tuple[Stage, Carrier]]) -> None:
    for stage, carrier in carriers:
        topic = app.topic(stage.source, key_serializer="raw", value_serializer="raw", value_type=bytes)
        app.agent(topic, name=stage.name)(_agent(carrier))


def _agent(carrier: Carrier) -> Callable[[StreamT[Any]], Awaitable[None]]:
    async def agent(stream: StreamT[Any]) -> None:
        try:
            await carrier.run(stream)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - Faust would acknowledge the batch and go on
            die(error)

    return agent
