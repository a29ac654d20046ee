"""Answers where a request stands, when this worker has it: nobody else knows the order in which it takes them."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka.errors import KafkaError

from contracts.control import Control
from contracts.frames import Frame, FrameKind
from inference.consumer import ModelConsumer
from inference.frames import Frames

log = structlog.get_logger()


class Locator:
    """Of one worker process."""

    def __init__(self, consumers: Sequence[ModelConsumer], frames: Frames) -> None:
        self._consumers = consumers
        self._frames = frames
        self._telling: set[asyncio.Task[None]] = set()

    def answer(self, key: bytes, question: Control) -> None:
        """To the asker alone, if the request waits or runs here."""
        for consumer in self._consumers:
            if place := consumer.telling.locate(question.claim):
                frame = Frame(
                    kind=FrameKind.PLACE,
                    in_reply_to=question.ce_id,
                    model=consumer.model,
                    claim=question.claim,
                    queue_position=place.ahead,
                    estimated_start=place.starts_at,
                )
                task = asyncio.create_task(self._tell(key, question.reply_to, frame))
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)

    async def _tell(self, key: bytes, reply_to: str | None, frame: Frame) -> None:
        try:
            topic, partition = await self._frames.addresses.resolve(reply_to)
            await self._frames.producer.send(topic, b"", key=key, partition=partition, headers=frame.to_headers())
        except KafkaError as error:
            log.warning("A place couldn't be told.", error=repr(error))
