"""The worker as a program: killed, told to stop, kept busy for longer than its session."""

from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from contracts.settings import Settings
from contracts.topics import Topics
from tests.inference.harness import MODEL, open_bench, worker_process, write_routes
from tests.inference.jobs import chat

pytestmark = pytest.mark.broker


def keys(count: int) -> list[str]:
    return [f"acme:k{number}" for number in range(count)]


async def test_a_killed_workers_requests_are_answered_by_the_next(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=10_000)})
    names = keys(40)
    async with open_bench(settings) as bench:
        first = worker_process(settings, tmp_path, "first", worker_max_in_flight="16")
        second = worker_process(settings, tmp_path, "second")
        await first.start()
        for number, name in enumerate(names):
            await bench.put(
                name, chat(f"{number}", max_tokens=5 + 10 * (number % 10), stream=True), claim=f"0.{number}"
            )
        await bench.log.completed(5)
        first.kill()
        assert await first.wait() < 0
        await second.start()
        await bench.log.answered(names, seconds=60)
        await bench.until_committed(40)
        texts = {name: {one.text for one in bench.log.completions if one.key == name} for name in names}
        await second.stop()
    assert all(len(found) == 1 for found in texts.values())  # a rerun says the same


async def test_sigterm_finishes_what_runs_and_leaves_at_once(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=20_000)})
    async with open_bench(settings) as bench:
        first = worker_process(
            settings, tmp_path, "first", worker_max_in_flight="4", worker_session_timeout_ms="120000"
        )
        second = worker_process(settings, tmp_path, "second")
        await first.start()
        for number, name in enumerate(keys(12)):
            await bench.put(name, chat(f"{number}", max_tokens=40, stream=True), claim=f"0.{number}")
        await bench.log.until(lambda: len(bench.log.frames) >= 4)
        assert await first.stop()
        assert await first.wait() == 0
        done = sum((await bench.committed()).values())
        assert 4 <= done < 12
        assert len(await bench.log.completed(done)) == done
        assert await members(settings) == []  # nobody waits for its session to end
        await second.start()
        await bench.log.answered(keys(12))
        await second.stop()
    assert len(bench.log.completions) == 12  # nothing twice


async def test_a_generation_longer_than_the_session_keeps_its_place(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"routes_file": write_routes(tmp_path, step_us=100_000)})
    async with open_bench(settings) as bench:
        first = worker_process(settings, tmp_path, "first", worker_max_in_flight="1")
        await first.start()
        before = await members(settings)
        for number, name in enumerate(keys(2)):  # 8 s against a session of 6
            await bench.put(
                name, chat(f"{number}", max_tokens=80 if number == 0 else 1), partition=0, claim=f"0.{number}"
            )
        await bench.log.completed(2)
        assert await members(settings) == before
        assert len(before) == 1
        await bench.until_committed(2)
        assert sorted(one.key for one in bench.log.completions) == keys(2)  # they came from two partitions
        await first.stop()


async def members(settings: Settings) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        response = (await admin.describe_consumer_groups([Topics.of(settings).worker_group(MODEL)]))[0]
        found = response.to_object()["groups"][0]["members"]
    finally:
        await admin.close()
    return [str(member["member_id"]) for member in found]
