"""vLLM behind the worker's own code and the real broker: as a program, and measured against vLLM alone."""

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import psutil
import pytest

from contracts.settings import Settings
from inference.engines.vllm import VllmEngine
from tests.inference.gate import open_station
from tests.inference.harness import Bench, open_bench, worker_process
from tests.inference.jobs import collect, make_job
from tests.vllm.conftest import CONCURRENT, CPU, READY_SECONDS
from tests.vllm.test_engine import greedy

TOKENS = 64


async def test_what_is_streamed_counted_and_answered_agree(settings: Settings, engine: VllmEngine) -> None:
    async with open_bench(settings) as bench, open_station(settings, engine):
        for number in range(24):
            body = greedy(f"Question {number}", 10 + number, stream=number % 2 == 0)
            await bench.put(f"acme:k{number}", body, claim=f"0.{number}")
        outcomes = {outcome.key: outcome for outcome in await bench.log.completed(24, 120)}
        for number in range(24):
            outcome = outcomes[f"acme:k{number}"]
            assert outcome.completion.completion_tokens == outcome.body["usage"]["completion_tokens"] == 10 + number
            assert outcome.completion.position == (len(outcome.text) if number % 2 == 0 else 0)
            assert outcome.completion.engine == "vllm"
            frames = [frame for _, frame in bench.log.frames_of(outcome.key)]
            assert [frame.sequence for frame in frames] == list(range(1, outcome.completion.sequence + 1))
        await bench.until_committed(24)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("level", [1, 8, CONCURRENT])
async def test_fed_from_kafka_it_is_about_as_busy_as_alone(
    settings: Settings, engine: VllmEngine, capsys: pytest.CaptureFixture[str], level: int, stream: bool
) -> None:
    """Prints tokens per second, the best of three turns each. The engine shares its cores with the broker and this
    test, so only a gross loss is a failure."""
    count = max(3 * level, 12)
    bodies = [greedy(f"Question {number}: how does the mill grind?", TOKENS, stream=stream) for number in range(count)]
    async with open_bench(settings, frames=False) as bench, open_station(settings, engine, room=level):
        await through(bench, "warm", bodies)
        turns = [
            (await timed(directly(engine, bodies, level)), await timed(through(bench, f"turn{turn}-", bodies)))
            for turn in range(3)
        ]
    alone, fed = (count * TOKENS / min(seconds) for seconds in zip(*turns, strict=True))
    kind = "streamed" if stream else "whole"
    line = (
        f"{level:3} at once, {kind:8}: vLLM alone {alone:5.0f} tokens/s, through Kafka {fed:5.0f} ({fed / alone:.0%})"
    )
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201
    assert fed > 0.1 * alone


async def timed(work: Awaitable[None]) -> float:
    """Seconds."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def directly(engine: VllmEngine, bodies: list[dict[str, Any]], level: int) -> None:
    """That many callers, one request after the other each."""
    waiting = iter(bodies)

    async def caller() -> None:
        for body in waiting:
            await collect(engine, make_job(body))

    await asyncio.gather(*(caller() for _ in range(level)))


async def through(bench: Bench, name: str, bodies: list[dict[str, Any]]) -> None:
    """All of them queued; the worker keeps as many in the engine as it has room for."""
    keys = [f"acme:{name}{number}" for number in range(len(bodies))]
    puts = [bench.put(key, body, claim=f"{name}.0") for key, body in zip(keys, bodies, strict=True)]
    await asyncio.gather(*puts)
    await bench.log.answered(keys, 120)


async def test_the_program_serves_drains_and_leaves_nothing_behind(
    settings: Settings, tiny_model: Path, tmp_path: Path
) -> None:
    routes = tmp_path / "routes.toml"
    routes.write_text(
        f'version = "test"\n[models.small]\nsource = "{tiny_model}"\n[[rules]]\nname = "all"\nmodel = "small"\n'
    )
    settings = settings.model_copy(update={"routes_file": routes})
    own = {"worker_engine": "vllm", "vllm_dtype": "float32", "vllm_gpu_memory_utilization": "0.3"}
    worker = worker_process(
        settings, tmp_path, environment=CPU, ready_seconds=READY_SECONDS, vllm_enforce_eager="true", **own
    )
    async with open_bench(settings) as bench:
        await worker.start()
        for number in range(4):
            await bench.put(f"acme:k{number}", greedy(f"Question {number}", 600, stream=True), claim=f"0.{number}")
        await bench.log.until(lambda: len(bench.log.frames) >= 8)
        assert worker.pid is not None
        family = psutil.Process(worker.pid).children(recursive=True)
        assert family
        assert await worker.stop()
        assert await worker.wait() == 0
        assert len(bench.log.completions) == 4
        _, left = psutil.wait_procs(family, timeout=10)
        assert left == []
