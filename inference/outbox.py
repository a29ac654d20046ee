"""The worker's way out: completions and dead letters awaited, deltas not."""

import os
from typing import NoReturn

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from contracts.completion import Completion, Escalation, Shadowed, ShadowWanted
from contracts.dead_letter import DeadLetter
from contracts.errors import EngineFailed
from contracts.headers import RawHeaders
from contracts.instruments import counters
from contracts.metrics import DEAD_LETTERS
from contracts.outcomes import Outcome
from contracts.topics import Topics

log = structlog.get_logger()
EXIT_UNDELIVERED = 3
_UNKNOWN_SECONDS = 60.0


def _while_topics_are_unknown() -> AsyncRetrying:
    """A broker that has just been started again doesn't know its topics for some seconds; the worker checked at its own
    start that they exist."""
    return AsyncRetrying(
        retry=retry_if_exception_type(UnknownTopicOrPartitionError),
        stop=stop_after_delay(_UNKNOWN_SECONDS),
        wait=wait_fixed(0.5),
        reraise=True,
    )


def die(reason: str) -> NoReturn:
    """Ends the process at once, with nothing committed that isn't published: another worker takes the work again."""
    log.error("The worker gives up.", reason=reason)
    os._exit(EXIT_UNDELIVERED)


class Outbox:
    """Publishes for all models of a process."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics) -> None:
        self._producer = producer
        self._topics = topics

    async def complete(self, record: ConsumerRecord, completion: Completion | Escalation, body: bytes) -> None:
        """Returns when every in-sync replica has the outcome. An escalation carries the request itself on. Raises
        KafkaError when it can't be delivered."""
        if isinstance(completion, Escalation):
            body = record.value or b""
        try:
            await self._publish(self._topics.completions, record, body, _with(record, completion))
        except MessageSizeTooLargeError:
            error = EngineFailed("The answer is larger than a Kafka record may be.")
            failed = completion.model_copy(update={"outcome": Outcome.FAILED, "status": error.status})
            await self._publish(self._topics.completions, record, error.body(), _with(record, failed))

    async def beside(self, record: ConsumerRecord, said: ShadowWanted | Shadowed) -> None:
        """What a shadow run begins with, or what came of one. Whether it arrives matters to nobody who waits."""
        value = (record.value or b"") if isinstance(said, ShadowWanted) else b""
        try:
            await self._publish(self._topics.completions, record, value, [*record.headers, *said.to_headers()])
        except KafkaError as error:
            log.warning("A shadow run is left out.", error=repr(error))

    async def dead_letter(
        self, record: ConsumerRecord, reason: str, *, attempts: int = 1, outcome: Outcome | None = None
    ) -> None:
        """Puts aside what can't be understood or run; `outcome` is what its client is told. Raises KafkaError."""
        letter = DeadLetter(
            dead_letter_reason=reason[:1000],
            dead_letter_stage="worker",
            dead_letter_topic=record.topic,
            dead_letter_partition=record.partition,
            dead_letter_offset=record.offset,
            dead_letter_attempts=attempts,
            dead_letter_outcome=outcome or "",
        )
        headers = [*record.headers, *letter.to_headers()]
        await self._publish(self._topics.dead_letters, record, record.value, headers)
        counters(DEAD_LETTERS)["worker"].inc()

    async def _publish(self, topic: str, record: ConsumerRecord, value: bytes | None, headers: RawHeaders) -> None:
        try:
            await self._producer.send_and_wait(topic, value, key=record.key, headers=headers)
        except UnknownTopicOrPartitionError:  # so seldom that what goes well needn't pay for the trying
            again = _while_topics_are_unknown()
            await again(self._producer.send_and_wait, topic, value, key=record.key, headers=headers)


def _with(record: ConsumerRecord, completion: Completion | Escalation) -> RawHeaders:
    """A first answer that travelled with the work has arrived."""
    kept = [pair for pair in record.headers if pair[0] not in ("first", "first-answer")]
    return [*kept, *completion.to_headers()]
