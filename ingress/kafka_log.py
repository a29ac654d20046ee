"""The request log on Kafka."""

import asyncio

import structlog
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced

from contracts.errors import KafkaUnavailable, StackError, Unacknowledged
from contracts.headers import RawHeaders
from contracts.kafka import producer_of
from contracts.settings import Settings
from ingress.link import Link

log = structlog.get_logger()

BATCH_BYTES = 262_144
RETRY_AFTER_SECONDS = 1
_LOST_PRODUCER = (ProducerFenced, OutOfOrderSequenceNumber, ProducerClosed)


class KafkaRequestLog:
    """A RequestLog. Its producer is idempotent: it never writes a record twice, and never gives one up."""

    def __init__(self, settings: Settings, topic: str, link: Link) -> None:
        self._topic = topic
        self._link = link
        self._timeout_seconds = settings.ingress_publish_timeout_ms / 1000
        self._producer = producer_of(settings, max_batch_size=BATCH_BYTES)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def reachable(self) -> bool:
        return self._link.up

    async def start(self) -> None:
        """Raises KafkaConnectionError; `stop` is due all the same."""
        await self._producer.start()

    async def stop(self, seconds: float) -> None:
        """Hand over what is still held; give that up after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._producer.stop()
        except TimeoutError:
            log.warning("Kafka didn't take every record before the stop; their callers were told to retry")

    async def partitions(self, topic: str) -> int:
        """Raises StackError when there is no such topic."""
        try:
            return len(await self._producer.partitions_for(topic))
        except KafkaError:
            raise StackError(f"Kafka has no topic {topic}: `millrace up` makes the topics.") from None

    async def append(self, key: bytes, value: bytes, headers: RawHeaders, topic: str | None = None) -> None:
        if not self._link.up:
            raise _nothing_accepted()
        delivery = await self._hand_over(topic or self._topic, key, value, headers)
        done, _ = await asyncio.wait((delivery,), timeout=self._timeout_seconds)
        if not done:
            self._link.late(delivery)
            raise Unacknowledged(
                "Kafka didn't confirm the request in time, so it may run or not: send it again with the "
                "Idempotency-Key of this answer, and it runs once.",
                retry_after=RETRY_AFTER_SECONDS,
            )
        if error := delivery.exception():
            raise self._refused(error)
        self._link.delivered()

    async def probe(self) -> bool:
        """Whether a broker answers a request for metadata in the time that it has for a record."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return bool(await self._producer.client.force_metadata_update())
        except TimeoutError:
            return False

    async def lost(self) -> None:
        """Raises StackError when the producer can never send again, so that the process ends and starts anew."""
        await self._lost

    async def _hand_over(self, topic: str, key: bytes, value: bytes, headers: RawHeaders) -> "asyncio.Future[object]":
        try:
            async with asyncio.timeout(self._timeout_seconds):
                delivery: asyncio.Future[object] = await self._producer.send(topic, value, key, headers=headers)
        except TimeoutError:
            self._link.probed(answered=False)
            raise _nothing_accepted() from None
        except KafkaError as error:
            raise self._refused(error) from None
        return delivery

    def _refused(self, error: BaseException) -> KafkaUnavailable:
        log.error("Kafka refused a record", reason=repr(error))
        if (isinstance(error, _LOST_PRODUCER) or type(error) is KafkaError) and not self._lost.done():
            self._lost.set_exception(StackError(f"The Kafka producer can't go on ({type(error).__name__})."))
        return _nothing_accepted()


def _nothing_accepted() -> KafkaUnavailable:
    return KafkaUnavailable(
        "Kafka can't be reached and nothing was accepted: try again in a moment.", retry_after=RETRY_AFTER_SECONDS
    )
