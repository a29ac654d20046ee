"""Disks that are full. Kafka and the other processes by a limit on the size of files, ClickHouse by a file system that
is really full."""

import asyncio
import contextlib
import random
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.ledger_faults import Held
from tests.chaos.registry import NotHappened, fault
from tests.chaos.rig import Rig

FULL_DISK_LEDGER = "full-disk-ledger"
_NO_LIMIT = resource.RLIM_INFINITY
_AGAIN_SECONDS = 0.2
_END_SECONDS = 60.0  # for Kafka to meet its full disk
_NO_SPACE = ("NOT_ENOUGH_SPACE", "No space left on device")  # before it writes, or while it does


@fault("full-disk-kafka")
async def _full_disk_kafka(rig: Rig, rng: random.Random) -> None:
    async with _full_disk(rig, ["kafka"]):
        await asyncio.sleep(rng.uniform(4, 8))


@fault("full-disk")
async def _full_disk_all(rig: Rig, rng: random.Random) -> None:
    """Kafka, streams and workers can't grow a file, nor can anybody's log. Not ClickHouse: full-disk-ledger."""
    async with _full_disk(rig, ["ingress", "streams", "worker", "analytics", "kafka"]):
        await asyncio.sleep(rng.uniform(4, 8))


@fault(FULL_DISK_LEDGER)
async def _full_disk_ledger(rig: Rig, rng: random.Random) -> None:
    """Not a byte is left under ClickHouse."""
    assert rig.small_disk, "offered only where there is one"
    held = await Held.begin(rig)
    filling = asyncio.create_task(_keep_filling(rig))
    try:
        await held.until_log(_NO_SPACE)
        await _check_again(held, rng.uniform(15, 25))
        if rig.small_disk.free_bytes:
            raise NotHappened(f"{rig.small_disk.free_bytes} bytes were left under ClickHouse")
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        rig.small_disk.empty()


async def _check_again(held: Held, seconds: float) -> None:
    """A merge may give space back just when the sink tries: then once more."""
    try:
        await held.check(seconds)
    except NotHappened:
        await held.check(seconds)


async def _keep_filling(rig: Rig) -> None:
    """Merges give space back."""
    assert rig.small_disk
    while True:
        await asyncio.to_thread(rig.small_disk.fill)
        await asyncio.sleep(_AGAIN_SECONDS)


@asynccontextmanager
async def _full_disk(rig: Rig, services: list[str]) -> AsyncIterator[None]:
    """RLIMIT_FSIZE of nothing: each write to a file fails, as on a full disk (with EFBIG instead of ENOSPC). Whoever
    is started again meanwhile finds it no emptier. Kafka ends by it."""
    before = _brokers(rig)
    keeping = asyncio.create_task(_keep_full(rig, services))
    try:
        yield
        async with asyncio.timeout(_END_SECONDS):
            while _brokers(rig) == before:  # noqa: ASYNC110
                await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError:
        raise NotHappened("Kafka wrote on") from None
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        _limit(rig, services, _NO_LIMIT)


def _brokers(rig: Rig) -> set[int | None]:
    return {member.pid for member in rig.of("kafka")}


async def _keep_full(rig: Rig, services: list[str]) -> None:
    while True:
        _limit(rig, services, 0)
        await asyncio.sleep(_AGAIN_SECONDS)


def _limit(rig: Rig, services: list[str], size: int) -> None:
    for member in (member for service in services for member in rig.of(service)):
        if member.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (size, _NO_LIMIT))
