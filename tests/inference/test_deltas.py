"""Delta frames while Kafka is slow or refuses: text gathers, frames stay in order, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka.errors import KafkaTimeoutError

from contracts.envelope import ReplyTo
from inference.chunks import Chunks
from inference.deltas import Coalescer, DeltaStream
from inference.engine import Finish, Step
from tests.support.leaping_clock import on_leaping_clock


class SlowKafka:
    """Takes every record and acknowledges it when the test says so."""

    def __init__(self) -> None:
        self.frames: list[tuple[dict[str, bytes], dict[str, Any]]] = []
        self.deliveries: list[asyncio.Future[None]] = []
        self.refuses = False

    async def send(self, _topic: str, value: bytes, **record: Any) -> asyncio.Future[None]:
        if self.refuses:
            raise KafkaTimeoutError
        self.frames.append((dict(record["headers"]), orjson.loads(value)["choices"][0]))
        self.deliveries.append(asyncio.get_running_loop().create_future())
        return self.deliveries[-1]

    def acknowledge(self) -> None:
        for delivery in self.deliveries:
            if not delivery.done():
                delivery.set_result(None)

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for _, choice in self.frames)


@asynccontextmanager
async def coalescing(interval_ms: int = 2) -> AsyncIterator[Coalescer]:
    coalescer = Coalescer(interval_ms)
    yield coalescer
    await coalescer.close()


def open_stream(kafka: SlowKafka) -> DeltaStream:
    chunks = Chunks("chat", "one", 1, "small", "synthetic")
    return DeltaStream(kafka, ReplyTo("responses", 0), b"acme:one", chunks, [("kind", b"delta")])


@on_leaping_clock
async def test_while_kafka_owes_acknowledgements_the_text_gathers() -> None:
    kafka = SlowKafka()
    stream = open_stream(kafka)
    async with coalescing() as coalescer:
        for number in range(60):
            await coalescer.add(stream, Step(f"{number} ", 1))
            await asyncio.sleep(0.003)
        assert len(kafka.frames) == 8
        kafka.acknowledge()
        await asyncio.sleep(0.003)
        assert len(kafka.frames) == 9
        assert kafka.text == "".join(f"{number} " for number in range(60))
        await coalescer.add(stream, Step("end", 1, Finish("stop", 1, 61)))
    headers, last = kafka.frames[-1]
    assert (int(headers["sequence"]), int(headers["position"])) == (10, len(kafka.text))
    assert (last["delta"], last["finish_reason"]) == ({"content": "end"}, "stop")


@on_leaping_clock
async def test_the_last_frame_goes_out_even_when_none_was_acknowledged() -> None:
    kafka = SlowKafka()
    stream = open_stream(kafka)
    async with coalescing() as coalescer:
        for number in range(30):
            await coalescer.add(stream, Step(f"{number} ", 1))
            await asyncio.sleep(0.003)
        await coalescer.add(stream, Step("", 0, Finish("stop", 1, 30)))
    assert kafka.text == "".join(f"{number} " for number in range(30))


@pytest.mark.parametrize("how", ["refused", "undelivered"])
@on_leaping_clock
async def test_a_stream_that_cannot_be_published_stops_and_the_answer_goes_on(how: str) -> None:
    kafka = SlowKafka()
    stream = open_stream(kafka)
    async with coalescing() as coalescer:
        await coalescer.add(stream, Step("one", 1))
        if how == "refused":
            kafka.refuses = True
        else:
            kafka.deliveries[0].set_exception(KafkaTimeoutError())
        for _ in range(10):
            await coalescer.add(stream, Step(" more", 1))
            await asyncio.sleep(0.003)
        await coalescer.add(stream, Step("", 0, Finish("stop", 1, 11)))
    assert kafka.text == "one"


@pytest.mark.parametrize(("interval_ms", "frames"), [(0, 20), (5, 20), (60, 8)])
@on_leaping_clock
async def test_the_first_token_goes_at_once_and_later_ones_are_gathered(interval_ms: int, frames: int) -> None:
    """A token every 25 ms; at 60 ms a frame has two or three of them."""
    clock = asyncio.get_running_loop().time
    kafka, began = SlowKafka(), clock()
    stream = open_stream(kafka)
    async with coalescing(interval_ms) as coalescer:
        for number in range(20):
            await coalescer.add(stream, Step(f"{number} ", 1, Finish("stop", 1, 20) if number == 19 else None))
            kafka.acknowledge()
            if number == 0:
                assert (kafka.text, clock()) == ("0 ", began)
            await asyncio.sleep(0.025)
    assert kafka.text == "".join(f"{number} " for number in range(20))
    assert len(kafka.frames) == frames


@on_leaping_clock
async def test_text_gathers_longer_the_more_streams_there_are() -> None:
    async with coalescing() as coalescer:
        few, many = [len((await speak(coalescer, streams)).frames) / streams for streams in (2, 200)]
    assert few > 5 * many


async def speak(coalescer: Coalescer, count: int) -> SlowKafka:
    """Each stream says a word every 2 ms, thirty times."""
    kafka = SlowKafka()
    streams = [open_stream(kafka) for _ in range(count)]
    for _ in range(30):
        for stream in streams:
            await coalescer.add(stream, Step("word ", 1))
        kafka.acknowledge()
        await asyncio.sleep(0.002)
    for stream in streams:
        coalescer.forget(stream)
    return kafka


@on_leaping_clock
async def test_other_fields_go_at_once_and_after_the_text_before_them() -> None:
    kafka = SlowKafka()
    stream = open_stream(kafka)
    call = {"tool_calls": [{"index": 0, "id": "c1"}]}
    steps = [Step("a", 1), Step("b", 1), Step("", 1, extra=call), Step("c", 1), Step("", 0, Finish("stop", 1, 4))]
    async with coalescing() as coalescer:
        for step in steps:
            await coalescer.add(stream, step)
    deltas = [choice["delta"] for _, choice in kafka.frames]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": "b"} | call, {"content": "c"}]
