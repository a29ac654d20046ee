"""Expiry on a real Kafka: what the window has left behind goes from disk and changelog, also after recovery."""

import asyncio
import shutil
from pathlib import Path

import pytest

from contracts.clock import now_ms
from contracts.envelope import RequestType
from contracts.settings import Settings
from contracts.topics import REQUEST_TABLE
from contracts.usage import UsageEvent
from streams.partition import partition_of
from streams.store import Place, Store
from tests.streams.actors import body
from tests.streams.live import DEADLINE_SECONDS, Live, live, running, streams_process

pytestmark = pytest.mark.broker
OLD_MS = 26 * 3_600_000
LOOK_SECONDS = 0.3
HOME = 0


def names(settings: Settings, prefix: str, count: int) -> list[str]:
    """Keys that all live in one partition."""
    keys = (f"acme:{prefix}{number}" for number in range(10_000))
    return [key for key in keys if partition_of(key.encode(), settings.request_partitions) == HOME][:count]


async def removed(around: Live, keys: list[str]) -> None:
    """A little traffic at the present time, until their deletion is in the changelog."""
    reader = around.readers[around.topics.changelog(REQUEST_TABLE)]
    wanted = {key.encode() for key in keys}
    gone = asyncio.create_task(
        reader.arrived(lambda record: record.key in wanted and record.value is None, len(keys), 2 * DEADLINE_SECONDS)
    )
    while not gone.done():
        await around.ask(names(around.settings, "now", 1)[0], body())
        await asyncio.wait({gone}, timeout=LOOK_SECONDS)
    await gone


def on_disk(settings: Settings, around: Live) -> list[str]:
    """Keys in the one process's table; it must have ended."""
    store = Store(settings.streams_state_dir / around.topics.streams_app / "0")
    try:
        return [key.decode() for key, _ in store.scan(Place(REQUEST_TABLE, HOME), b"\x01", b"\xff", 1000)]
    finally:
        store.close()


async def test_entries_leave_the_disk_and_the_changelog(settings: Settings, tmp_path: Path) -> None:
    old, now = names(settings, "old", 12), names(settings, "now", 1)
    streams = streams_process(settings, tmp_path)
    async with live(settings) as around:
        async with running(streams):
            for key in old:
                await around.ask(key, body(), at=now_ms() - OLD_MS)
            for key in old:
                await around.told(key, kind="final")
        assert on_disk(settings, around) == sorted(old)
        shutil.rmtree(settings.streams_state_dir)
        async with running(streams):  # recovers them from the changelog
            await removed(around, old)
            work = around.readers[around.topics.work("small", "interactive")]
            around.finish((await work.arrived(lambda record: record.key == old[0].encode()))[0])  # once more, and late
            ce_id = await around.ask(old[0], kind=RequestType.LOOKUP)
            assert b"no request" in (await around.told(old[0], ce_id=ce_id)).value.lower()
            await around.ask(old[1], body("another"))
            kinds = [await billed(around, key, count) for key, count in zip(old, (2, 2, 1), strict=False)]
        assert kinds == [["usage", "waste"], ["usage", "usage"], ["usage"]]
        assert on_disk(settings, around) == sorted([*now, old[1]])


async def billed(around: Live, key: str, count: int) -> list[str]:
    """The kinds of a request's usage events, when there are so many."""
    named = b'"idempotency_key":"%b"' % key.partition(":")[2].encode()
    events = await around.readers[around.topics.usage].arrived(lambda event: named in event.value, count)
    return [UsageEvent.model_validate_json(event.value).kind for event in events]
