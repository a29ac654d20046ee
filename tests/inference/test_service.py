"""The whole worker in this process, on the real broker, with the synthetic engine: answers, frames, reply addresses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.partitioner import murmur2
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from contracts.errors import ConfigError
from contracts.frames import FrameKind
from contracts.outcomes import Outcome
from contracts.settings import Settings
from inference.service import run
from millrace.ports import free_port
from tests.inference.harness import Bench, open_bench, write_routes
from tests.inference.jobs import ACCEPTED_AT, chat

pytestmark = pytest.mark.broker


@asynccontextmanager
async def worker(
    settings: Settings, tmp_path: Path, timing: dict[str, float] | None = None, **more: Any
) -> AsyncIterator[Bench]:
    routes = write_routes(tmp_path, **(timing or {}))
    settings = settings.model_copy(update={"routes_file": routes, **more})
    stop = asyncio.Event()
    async with open_bench(settings) as bench:
        running = asyncio.create_task(run(settings, stop=stop))
        yield bench
        stop.set()
        async with asyncio.timeout(60):
            await running


def streamed_text(bench: Bench, key: str) -> str:
    chunks = [ChatCompletionChunk.model_validate_json(record.value) for record, _ in bench.log.frames_of(key)]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_every_request_is_answered_and_the_frames_say_the_same(settings: Settings, tmp_path: Path) -> None:
    async with worker(settings, tmp_path) as bench:
        for number in range(40):
            body = chat(f"question {number}", max_tokens=1 + number % 7, stream=number % 2 == 0)
            await bench.put(f"acme:k{number}", body, claim=f"0.{number}")
        outcomes = {outcome.key: outcome for outcome in await bench.log.completed(40)}
        await bench.until_committed(40)
    for number in range(40):
        outcome = outcomes[f"acme:k{number}"]
        response = ChatCompletion.model_validate(outcome.body)
        assert (outcome.completion.outcome, outcome.completion.status) == (Outcome.SUCCEEDED, 200)
        assert response.created == ACCEPTED_AT // 1000
        assert outcome.completion.completion_tokens == len(outcome.text.split()) == 1 + number % 7
        assert outcome.completion.model_version == "9"
        frames = bench.log.frames_of(outcome.key)
        assert bool(frames) == (number % 2 == 0)
        if frames:
            assert streamed_text(bench, outcome.key) == outcome.text
            assert [frame.sequence for _, frame in frames] == list(range(1, outcome.completion.sequence + 1))
            assert frames[-1][1].position == outcome.completion.position == len(outcome.text)
            assert {(frame.kind, frame.run, frame.model, frame.claim) for _, frame in frames} == {
                (FrameKind.DELTA, outcome.completion.run, "small", f"0.{number}")
            }


async def test_a_second_run_gives_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    async with worker(settings, tmp_path) as bench:
        for claim in ("0.1", "0.2"):
            await bench.put("acme:again", chat(max_tokens=9), claim=claim)
        one, two = await bench.log.completed(2)
        assert one.record.value == two.record.value
        assert one.completion.run != two.completion.run


@pytest.mark.parametrize("coalesce_ms", [0, 5, 150])
async def test_the_first_token_comes_at_once_and_later_ones_are_gathered(
    settings: Settings, tmp_path: Path, coalesce_ms: int
) -> None:
    """How many are gathered when: test_deltas.py."""
    timing = {"step_us": 25_000.0}
    async with worker(settings, tmp_path, timing, worker_coalesce_ms=coalesce_ms) as bench:
        await bench.put("acme:slow", chat(max_tokens=20, stream=True))
        outcome = (await bench.log.completed(1))[0]
        frames = bench.log.frames_of("acme:slow")
        assert 2 <= len(frames) <= 20
        first = orjson.loads(frames[0][0].value)["choices"][0]
        assert first["delta"] == {"role": "assistant", "content": "[synthetic]"}
        last = orjson.loads(frames[-1][0].value)["choices"][0]
        assert last["finish_reason"] == "length"
        assert all(one.position < other.position for (_, one), (_, other) in pairwise(frames))
        assert streamed_text(bench, "acme:slow") == outcome.text
        ended = outcome.completion
        assert ended.started_at is not None
        assert ended.first_token_at is not None
        moments = [ended.started_at, ended.first_token_at, *(record.timestamp for record, _ in frames)]
        assert moments == sorted(moments)
        assert 450_000 <= ended.engine_us <= (ended.finished_at - ended.started_at + 2) * 1000


async def test_frames_go_to_the_reply_address_or_else_to_responses_by_key(settings: Settings, tmp_path: Path) -> None:
    responses = f"{settings.topic_prefix}responses"
    addresses = {
        "acme:named": f"{responses}/11",
        "acme:none": None,
        "acme:no-topic": f"{responses}.nowhere/0",
        "acme:no-partition": f"{responses}/99",
        "acme:not-for-frames": f"{settings.topic_prefix}usage/0",
        "acme:nonsense": "responses/x/y",
    }
    async with worker(settings, tmp_path) as bench:
        for key, reply_to in addresses.items():
            await bench.put(key, chat(max_tokens=3, stream=True), reply_to=reply_to, claim=f"0.{len(key)}")
        await bench.log.answered(addresses, seconds=10)
        await bench.log.until(lambda: all(len(bench.log.frames_of(key)) == 2 for key in addresses))
        for key in addresses:
            by_key = (murmur2(key.encode()) & 0x7FFFFFFF) % settings.response_partitions
            wanted = 11 if key == "acme:named" else by_key
            assert {record.partition for record, _ in bench.log.frames_of(key)} == {wanted}, key


async def test_it_says_in_one_sentence_why_it_cannot_start(settings: Settings, tmp_path: Path) -> None:
    routes = write_routes(tmp_path)
    stop = asyncio.Event()
    wrong = {
        "no such model": (ConfigError, "names 'nobody'", {"worker_models": "small,nobody"}),
        "no topics": (ConfigError, "has no topic", {"topic_prefix": "elsewhere-"}),
        "no vllm": (ConfigError, r"pip install 'millrace\[vllm\]'", {"worker_engine": "vllm"}),
    }
    for error, message, changes in wrong.values():
        with pytest.raises(error, match=message):
            await run(settings.model_copy(update={"routes_file": routes, **changes}), stop=stop)


async def test_it_waits_for_a_kafka_that_is_not_there_yet(settings: Settings, tmp_path: Path) -> None:
    stop = asyncio.Event()
    changes = {"routes_file": write_routes(tmp_path), "kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"}
    waiting = asyncio.create_task(run(settings.model_copy(update=changes), stop=stop))
    await asyncio.wait({waiting}, timeout=1)
    assert not waiting.done()
    stop.set()
    async with asyncio.timeout(30):
        await waiting
