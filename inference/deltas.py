"""Delta frames: the first token at once, later ones gathered for a few milliseconds.

Frames aren't awaited one by one, but only so many of a stream may be without Kafka's acknowledgement: while they are,
the text gathers, and the next frame carries it all. Nothing is dropped and nothing waits for a reader.
"""

import asyncio
from collections import deque

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from contracts.envelope import ReplyTo
from contracts.headers import RawHeaders
from contracts.logs import concerning
from inference.chunks import Chunks
from inference.engine import Finish, Prefix, Step
from inference.published import TAKEOVER, pack_ids

log = structlog.get_logger()
_UNACKNOWLEDGED_FRAMES = 8  # of one stream
_FRAMES_PER_SECOND = 4000  # of all streams together: 64 streams get a frame every 16 ms each


class DeltaStream:
    """One request's frames. `sequence` and `position` (characters) tell what was published; with a `prefix`, an earlier
    run has published that much. `opening` headers are on the first frame alone."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        address: ReplyTo,
        key: bytes,
        chunks: Chunks,
        headers: RawHeaders,
        opening: RawHeaders | None = None,
    ) -> None:
        self._producer = producer
        self._address = address
        self._key = key
        self._chunks = chunks
        self._headers = headers
        self._opening = opening or []
        self._texts: list[str] = []
        self._tokens = 0  # of the whole answer, up to what has gathered
        self._token_ids: list[int] = []  # gathered
        self._begun = False
        self._deliveries: deque[asyncio.Future[object]] = deque()
        self._lock = asyncio.Lock()  # frames leave in order, whoever flushes
        self._broken = False
        self.sent_at = 0.0
        self.sequence = 0
        self.position = 0

    async def take_over(self) -> RecordMetadata:
        """Tells every reader that from here on only this run's frames count; returns where that stands. Raises
        KafkaError."""
        delivery = await self._producer.send(
            self._address.topic,
            self._chunks.chunk("", first=False),
            key=self._key,
            partition=self._address.partition,
            headers=[*self._headers, *self._opening, ("sequence", b"%d" % TAKEOVER), ("position", b"0")],
        )
        return await delivery

    def go_on(self, prefix: Prefix) -> None:
        """The text begins with this, which is published."""
        self._begun = bool(prefix.text)
        self._tokens = prefix.tokens
        self.position = len(prefix.text)

    def gather(self, step: Step) -> None:
        self._tokens += step.tokens
        self._token_ids.extend(step.token_ids)
        if step.text:
            self._texts.append(step.text)

    @property
    def ready(self) -> bool:
        """There is text, and Kafka keeps up with what went before."""
        while self._deliveries and self._deliveries[0].done():
            self._broken |= self._deliveries.popleft().exception() is not None
        return bool(self._texts) and not self._broken and len(self._deliveries) < _UNACKNOWLEDGED_FRAMES

    async def flush(self, step: Step | None = None) -> None:
        """Publishes what has gathered; with a step's other fields and its finish when it has them."""
        async with self._lock:
            text = "".join(self._texts)
            self._texts.clear()
            if not (text or step) or self._broken:
                return
            value = self._chunks.chunk(
                text,
                first=not self._begun,
                finish=step.finish.reason if step and step.finish else None,
                extra=step.extra if step else None,
                logprobs=step.logprobs if step else None,
            )
            self._begun = True
            self.sequence += 1
            self.position += len(text)
            await self._send(value, step.finish if step else None)

    async def _send(self, value: bytes, finish: Finish | None) -> None:
        headers = [
            *self._headers,
            ("sequence", b"%d" % self.sequence),
            ("position", b"%d" % self.position),
            ("completion-tokens", b"%d" % self._tokens),
        ]
        if self.sequence == 1:
            headers += self._opening
        if self._token_ids:
            headers.append(("token-ids", pack_ids(self._token_ids)))
            self._token_ids.clear()
        if finish:
            headers += _finish_headers(finish)
        try:
            delivery = await self._producer.send(
                self._address.topic, value, key=self._key, partition=self._address.partition, headers=headers
            )
            self._deliveries.append(delivery)
        except KafkaError as error:
            self._broken = True  # the final frame has the whole answer
            with concerning(self._key, self._opening):
                log.warning("Delta frames stopped.", topic=self._address.topic, error=repr(error))


def _finish_headers(finish: Finish) -> RawHeaders:
    """All that another worker needs to end the request, should this one die before it has."""
    return [
        ("prompt-tokens", b"%d" % finish.prompt_tokens),
        ("cached-tokens", b"%d" % finish.cached_tokens),
        ("model-version", finish.model_version.encode()),
    ]


class Coalescer:
    """One timer for all streams of a process. The more streams there are, the longer each one's text gathers, so that
    cost per token falls as load rises."""

    def __init__(self, interval_ms: int) -> None:
        self._least = interval_ms / 1000
        self._clock = asyncio.get_running_loop().time
        self._streams: set[DeltaStream] = set()
        self._gathering: set[DeltaStream] = set()
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="coalescer")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def add(self, stream: DeltaStream, step: Step) -> None:
        """Publishes the step now, or within the interval when the stream published something just before."""
        stream.gather(step)
        if step.finish or step.extra or step.logprobs:
            self._gathering.discard(stream)
            await stream.flush(step)
        elif (now := self._clock()) - stream.sent_at >= self._interval and stream.ready:
            stream.sent_at = now
            self._streams.add(stream)
            await stream.flush()
        elif step.text:
            self._gathering.add(stream)
            self._wake.set()

    def forget(self, stream: DeltaStream) -> None:
        self._streams.discard(stream)
        self._gathering.discard(stream)

    @property
    def _interval(self) -> float:
        """Seconds."""
        return max(self._least, len(self._streams) / _FRAMES_PER_SECOND) if self._least else 0.0

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._interval)
            now = self._clock()
            for stream in [stream for stream in self._gathering if stream.ready]:
                self._gathering.discard(stream)
                stream.sent_at = now
                await stream.flush()
            if not self._gathering:
                self._wake.clear()
