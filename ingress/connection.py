"""One process's side of Kafka: it writes requests, hears frames on its reply address, and follows the API keys."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Self

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts.catalogue import Catalogue
from contracts.envelope import ReplyTo
from contracts.pause import pause
from contracts.settings import Settings
from contracts.topics import Topics
from ingress.gateway import Gateway
from ingress.kafka_history import KafkaHistory
from ingress.kafka_log import KafkaRequestLog
from ingress.link import Link
from ingress.tail import Tail

log = structlog.get_logger()

RETRY_SECONDS = 1.0
LAST_RECORDS_SECONDS = 5.0


class Connection:
    """Made by `connect`; `run` keeps it alive."""

    def __init__(
        self,
        gateway: Gateway,
        requests: KafkaRequestLog,
        link: Link,
        keys: Tail,
        frames: Tail,
        beats: Tail,
        history: KafkaHistory,
    ) -> None:
        self.gateway = gateway
        self._requests = requests
        self._link = link
        self._keys = keys
        self._frames = frames
        self._beats = beats
        self._history = history

    @classmethod
    async def open(cls, settings: Settings, catalogue: Catalogue) -> Self:
        """Returns when keys are read and the reply address is heard. Raises KafkaError, StackError."""
        topics, link = Topics.of(settings), Link()
        async with AsyncExitStack() as undo:
            requests = KafkaRequestLog(settings, topics.requests, link)
            undo.push_async_callback(requests.stop, LAST_RECORDS_SECONDS)
            await requests.start()
            await requests.partitions(topics.requests)
            # no group and no coordination: two processes on one partition merely pass over each other's frames
            partition = random.randrange(await requests.partitions(topics.responses))  # noqa: S311
            reply_to = ReplyTo(topics.responses, partition)
            gateway = Gateway(settings, catalogue, requests, str(reply_to))
            gateway.history = history = KafkaHistory(settings, requests.partitions)
            undo.push_async_callback(history.close)
            keys = Tail(settings, TopicPartition(topics.api_keys, 0), "beginning", gateway.keyring.apply)
            undo.push_async_callback(keys.stop)
            await keys.start()
            await keys.catch_up()
            beats = Tail(settings, TopicPartition(topics.workers, 0), "beginning", gateway.capacity.apply)
            undo.push_async_callback(beats.stop)
            await beats.start()
            await beats.catch_up()
            frames = Tail(settings, TopicPartition(*reply_to), "end", gateway.calls.dispatch)
            undo.push_async_callback(frames.stop)
            await frames.start()
            undo.pop_all()
        return cls(gateway, requests, link, keys, frames, beats, history)

    async def run(self) -> None:
        """Runs until cancelled. Raises StackError when Kafka's client can't go on."""
        gateway = self.gateway
        tasks = [
            asyncio.create_task(self._frames.follow(on_loss=gateway.ask_again)),
            asyncio.create_task(self._keys.follow()),
            asyncio.create_task(self._beats.follow()),
            asyncio.create_task(self._link.watch(self._requests.probe, on_recovery=gateway.ask_again)),
            asyncio.create_task(self._requests.lost()),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.gateway.departures.forget()
        await self._requests.stop(LAST_RECORDS_SECONDS)
        await asyncio.gather(self._frames.stop(), self._keys.stop(), self._beats.stop(), self._history.close())


async def connect(settings: Settings, catalogue: Catalogue, stop: asyncio.Event) -> Connection | None:
    """Try until Kafka is there; None when told to stop before. Raises StackError when a topic is missing."""
    while not stop.is_set():
        try:
            return await Connection.open(settings, catalogue)
        except KafkaError as error:
            log.warning("waiting for Kafka", servers=settings.kafka_bootstrap_servers, reason=str(error))
        await pause(RETRY_SECONDS, stop)
    return None
