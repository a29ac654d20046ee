"""The worker while its broker is killed and comes back: nothing lost, nothing run twice, and it goes on by itself."""

from pathlib import Path

import pytest

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_runtime import KafkaRuntime
from millrace.topic_admin import ensure_topics
from tests.inference.harness import open_bench, worker_process, write_routes
from tests.inference.jobs import chat

pytestmark = pytest.mark.broker


async def test_it_waits_for_its_broker(kafka_runtime: KafkaRuntime, tmp_path: Path) -> None:
    broker = KafkaBroker(kafka_runtime, tmp_path / "kafka")
    await broker.start()
    try:
        settings = Settings(
            kafka_bootstrap_servers=broker.bootstrap, routes_file=write_routes(tmp_path, step_us=20_000)
        )
        await ensure_topics(settings, all_topics(settings, load_catalogue(settings.routes_file)))
        worker = worker_process(settings, tmp_path)
        async with open_bench(settings) as bench:
            await worker.start()
            keys = [f"acme:k{number}" for number in range(20)]
            for number, key in enumerate(keys):
                await bench.put(key, chat(f"{number}", max_tokens=100, stream=True), claim=f"0.{number}")
            await bench.log.until(lambda: len(bench.log.frames) > 50)
            broker.kill()
            await broker.wait()
            await broker.start()
            await bench.log.answered(keys, 90)
            await bench.put("acme:after", chat(max_tokens=3))
            await bench.log.answered(["acme:after"], 60)
            await bench.until_committed(21, 60)
            assert len(bench.log.completions) == 21
            assert await worker.stop()
    finally:
        await broker.stop()
