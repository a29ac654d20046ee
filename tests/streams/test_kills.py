"""kill -9 of streams under load: every request is answered once and billed once, whoever dies when."""

import asyncio
import os
import random
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import orjson
import pytest
from aiokafka import ConsumerRecord

from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from millrace.service_process import ServiceProcess
from tests.streams.actors import body
from tests.streams.live import Live, head, live, running, streams_process

pytestmark = pytest.mark.broker
REQUESTS = 400
KEYS = 300  # the others are duplicates
PAUSE_SECONDS = 0.01
ZOMBIE_SECONDS = 9.0  # beyond the session timeout of 6 s


@pytest.fixture
async def two(settings: Settings, tmp_path: Path) -> AsyncIterator[list[ServiceProcess]]:
    processes = [streams_process(settings, tmp_path, f"streams-{number}") for number in range(2)]
    async with running(*processes):
        yield processes


@pytest.fixture
async def around(settings: Settings) -> AsyncIterator[Live]:
    async with live(settings) as played:
        yield played


async def load(around: Live) -> list[tuple[str, str]]:
    """Requests and duplicates of them at a steady rate; key and ce_id of each."""
    asked = []
    for number in range(REQUESTS):
        name = number % KEYS
        key = f"tenant{name % 7}:k{name}"
        asked.append((key, await around.ask(key, body(f"question {name}"))))
        await asyncio.sleep(PAUSE_SECONDS)
    return asked


async def check(around: Live, asked: list[tuple[str, str]]) -> None:
    """Everybody is told; one answer and one bill per key; what ran twice is waste."""
    finals = await _finals(around, asked)
    answers: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for frame in finals:
        answers[frame.key].add(frame.value)
    assert len(answers) == KEYS
    assert all(len(values) == 1 for values in answers.values())
    bills: defaultdict[str, set[str]] = defaultdict(set)
    by_id: defaultdict[str, set[bytes]] = defaultdict(set)
    for key in {key for key, _ in asked}:
        for value in await around.usage(key):
            event = UsageEvent.model_validate_json(value)
            by_id[event.event_id].add(value)
            if event.kind is UsageKind.USAGE:
                bills[key].add(event.event_id)
                assert {orjson.dumps({"id": event.run})} == answers[key.encode()]
    assert all(len(values) == 1 for values in by_id.values())
    assert all(len(ids) == 1 for ids in bills.values())
    assert len(bills) == KEYS
    assert not around.readers[around.topics.dead_letters].records


async def _finals(around: Live, asked: list[tuple[str, str]]) -> list[ConsumerRecord]:
    frames = around.readers[around.topics.responses]
    for key, ce_id in asked:
        await frames.arrived(partial(_answers, key.encode(), ce_id), within=60.0)
    return list(frames.records)


def _answers(key: bytes, ce_id: str, frame: ConsumerRecord) -> bool:
    return frame.key == key and head(frame, "in-reply-to") in ("", ce_id)


async def kill_one(two: list[ServiceProcess]) -> None:
    victim = random.choice(two)
    victim.kill()
    await victim.wait()
    await victim.start()


async def kill_both(two: list[ServiceProcess]) -> None:
    for process in two:
        process.kill()
        await process.wait()
    await asyncio.gather(*(process.start() for process in two))


async def stop_in_order(two: list[ServiceProcess]) -> None:
    """A rolling restart."""
    for process in two:
        await process.stop()
        await process.start()


async def suspend(two: list[ServiceProcess]) -> None:
    """For longer than the session timeout: another takes over, and then the first wakes up with its work half done."""
    pid = two[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(ZOMBIE_SECONDS)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [kill_one, kill_both, stop_in_order, suspend])
async def test_each_request_is_answered_once_and_billed_once(
    two: list[ServiceProcess], around: Live, fault: Callable[[list[ServiceProcess]], Awaitable[None]]
) -> None:
    loading = asyncio.create_task(load(around))
    await asyncio.sleep(random.uniform(0.5, 1.5))
    await fault(two)
    await check(around, await loading)
