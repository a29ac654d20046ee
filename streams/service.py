"""The streams service: dedupe, meter, route and settle, on whatever share of the partitions this process is given."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from contracts.catalogue import load_catalogue
from contracts.compacted import Follower
from contracts.kafka import producer_of, started
from contracts.poison_limit import PoisonLimit
from contracts.prices import load_prices
from contracts.runtime import notify_ready
from contracts.settings import Settings
from contracts.tokenizer import load_tokenizers
from contracts.topics import GROWTH_BYTES, REQUEST_TABLE, Topics
from streams.carrier import Carrier
from streams.census import Census
from streams.changelog import Changelog
from streams.entry import accepted_at
from streams.faust_app import add_agents, build_app, die
from streams.gate import Gate
from streams.lag import LagWatch
from streams.limits.policy import default_policy
from streams.metrics import prepare, tell_tables
from streams.outbox import Outbox
from streams.policy.running import RunningPolicy
from streams.policy.surroundings import Surroundings
from streams.reply_topics import ReplyTopics
from streams.stage import House, Stage
from streams.stages import stages
from streams.state_folder import claim_folder
from streams.store import Place, Store
from streams.tables import Tables
from streams.topic_check import check_topics
from streams.watchdog import Watchdog

_STOP_SECONDS = 20.0
_MAX_BATCH = 1000  # a batch's changes to a table must fit into one Kafka batch
_BATCH_OVERHEAD_BYTES = 1024
_log = structlog.get_logger()


async def run(settings: Settings, *, stop: asyncio.Event) -> None:
    """Until told to stop; waits for a Kafka that isn't there yet. Raises ConfigError or StackError."""
    catalogue, prices = load_catalogue(settings.routes_file), load_prices(settings.prices_file)
    tokenizers, policy = load_tokenizers(catalogue, settings.routes_file), default_policy(settings)
    routing, surroundings = RunningPolicy(catalogue, prices), Surroundings(settings)
    house = House(settings, Topics.of(settings), catalogue, prices, policy, routing, surroundings, tokenizers)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(_producer(settings, stop))
        if producer is None:
            return
        ours = check_topics(await producer.client.fetch_all_metadata(), settings, catalogue)
        await producer.client.set_topics(ours)
        await stack.enter_async_context(Follower(settings, house.topics.limits, policy.apply))
        await stack.enter_async_context(Follower(settings, house.topics.routes, routing.apply))
        await stack.enter_async_context(Follower(settings, house.topics.workers, surroundings.apply))
        folder = stack.enter_context(claim_folder(settings.streams_state_dir / house.topics.streams_app))
        store = Store(folder, {REQUEST_TABLE: accepted_at})
        stack.callback(store.close)
        changelog = await stack.enter_async_context(Changelog(settings, store))
        max_bytes = settings.max_body_bytes + GROWTH_BYTES - _BATCH_OVERHEAD_BYTES
        outbox = Outbox(producer, ours, house.topics.responses, ReplyTopics(producer.client), max_bytes)
        await _Shell(house, folder, store, changelog, outbox).run(stop)


class _Shell:
    """Faust and what hangs on its rebalances."""

    def __init__(self, house: House, folder: Path, store: Store, changelog: Changelog, outbox: Outbox) -> None:
        self._stages = stages(house)
        self._gate = Gate()
        self._opening: asyncio.Task[None] | None = None
        self._was_ready = False
        self._tables = Tables(store, changelog, {stage.table for stage in self._stages})
        self._census = Census(self._tables, list(house.catalogue.models))
        self._lag = LagWatch(house.settings, house.catalogue, self._census.mean_tokens)
        prepare(house.settings, house.catalogue)
        tell_tables(self._tables, {stage.table for stage in self._stages}, folder)
        self._app: Any = build_app(house.settings, folder, self._quiet, self._ready)
        most = min(house.settings.streams_batch_size, _MAX_BATCH)
        carriers = [
            (
                stage,
                Carrier(stage, house.topics, self._tables, outbox, self._gate, most, PoisonLimit.of(house.settings)),
            )
            for stage in self._stages
        ]
        add_agents(self._app, carriers)

    async def run(self, stop: asyncio.Event) -> None:
        self._app.in_worker = True
        self._app.finalize()
        starting = asyncio.create_task(self._app.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        guards = {asyncio.create_task(self._crashed()), asyncio.create_task(self._watch())}
        telling = {asyncio.create_task(self._census.run()), asyncio.create_task(self._lag.run())}
        await asyncio.wait({stopping, *guards}, return_when=asyncio.FIRST_COMPLETED)
        for task in guards | telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await self._stop()

    async def _quiet(self) -> None:
        """Partitions are about to be taken away: let nothing in, and what is under way end."""
        self._gate.close()
        if self._opening:
            self._opening.cancel()
        await self._gate.idle()
        self._tables.close()

    async def _ready(self) -> None:
        """Partitions have been assigned, perhaps none."""
        places = _places(self._stages, self._app.consumer.assignment())
        self._opening = asyncio.create_task(self._tables.open(places, self._app.consumer_generation_id))
        await asyncio.wait({self._opening})
        if self._opening.cancelled():
            return  # they have been taken away again
        self._opening.result()
        self._gate.open()
        if not self._was_ready:
            self._was_ready = True
            notify_ready()

    async def _crashed(self) -> None:
        """Faust's services end each other silently; this process then ends loudly."""
        await self._app.wait_until_stopped()
        die(self._app.crash_reason or RuntimeError("Faust stopped by itself"))

    async def _watch(self) -> None:
        try:
            await Watchdog(self._app.consumer, self._gate).watch()
        except Exception as error:  # noqa: BLE001
            die(error)

    async def _stop(self) -> None:
        """Within a limit: a delivery may hang on Kafka, and Faust's own stop on anything; it can't be cancelled."""
        self._gate.close()
        ending = asyncio.create_task(self._end())
        done, _ = await asyncio.wait({ending}, timeout=_STOP_SECONDS)
        if not done:
            die(TimeoutError("the streams did not stop in time"))
        ending.result()

    async def _end(self) -> None:
        await self._gate.idle()
        await self._app.stop()


def _places(own: list[Stage], assigned: set[Any]) -> set[Place]:
    tables = {stage.source: stage.table for stage in own}
    return {Place(tables[tp.topic], tp.partition) for tp in assigned if tp.topic in tables}


@asynccontextmanager
async def _producer(settings: Settings, stop: asyncio.Event) -> AsyncIterator[AIOKafkaProducer | None]:
    """None when told to stop before Kafka was there."""
    producer = await started(partial(producer_of, settings, metadata_max_age_ms=5000), settings, stop)
    try:
        yield producer
    finally:
        if producer:
            await producer.stop()
