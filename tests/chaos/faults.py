"""Every fault by name. It returns when what it broke may heal; the campaign waits for the healing."""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from tests.chaos.rig import Member, Rig

SESSION_SECONDS = 6.0  # of workers, streams and sink alike
_NO_LIMIT = resource.RLIM_INFINITY


@dataclass(frozen=True)
class Fault:
    name: str
    goal_seconds: float | None  # until answers flow again; None where a fault has no such goal
    inflict: Callable[[Rig, random.Random], Awaitable[None]]


FAULTS: dict[str, Fault] = {}
_OF_THREE_SECONDS = 5  # the goal for one broker of three


def goal_seconds(name: str, brokers: int) -> float | None:
    if name == "kill-kafka" and brokers == 3:
        return _OF_THREE_SECONDS
    return FAULTS[name].goal_seconds if name in FAULTS else None


Inflict = Callable[[Rig, random.Random], Awaitable[None]]


def _fault(name: str, goal_seconds: float | None) -> Callable[[Inflict], Inflict]:
    def register(inflict: Inflict) -> Inflict:
        FAULTS[name] = Fault(name, goal_seconds, inflict)
        return inflict

    return register


def _kill(service: str, goal_seconds: float | None) -> None:
    @_fault(f"kill-{service}", goal_seconds)
    async def kill(rig: Rig, rng: random.Random) -> None:
        """kill -9 of one."""
        _send(rng.choice(rig.of(service)), signal.SIGKILL)


def _term(service: str, goal_seconds: float | None) -> None:
    @_fault(f"term-{service}", goal_seconds)
    async def roll(rig: Rig, rng: random.Random) -> None:
        """A rolling restart: SIGTERM of each, the next when it is ready again (a broker: has caught up, too)."""
        for member in rig.of(service):
            _send(member, signal.SIGTERM)
            await member.up.wait()
            if service == "kafka":
                await rig.replicated()


def _freeze(service: str, spare: str | None) -> None:
    @_fault(f"freeze-{service}", None)
    async def freeze(rig: Rig, rng: random.Random) -> None:
        """SIGSTOP beyond the session timeout, so that another takes over where there is one, then CONT."""
        async with _added(rig, [spare] if spare else []):
            victim = rng.choice(rig.of(service))
            _send(victim, signal.SIGSTOP)
            await asyncio.sleep(SESSION_SECONDS + rng.uniform(2, 6))
            _send(victim, signal.SIGCONT)
            await asyncio.sleep(2)
            await victim.up.wait()


for _service, _goal in {"ingress": 3, "streams": 10, "worker": 10, "analytics": None, "kafka": 15}.items():
    _kill(_service, _goal)
    _term(_service, _goal)
for _service, _spare in {"ingress": None, "streams": "streams-2", "worker": None, "analytics": None}.items():
    _freeze(_service, _spare)


@_fault("freeze-kafka", None)
async def _freeze_kafka(rig: Rig, rng: random.Random) -> None:
    """Kafka itself stands still for longer than every session; all members are zombies to it at once."""
    kafka = rng.choice(rig.of("kafka"))
    _send(kafka, signal.SIGSTOP)
    await asyncio.sleep(SESSION_SECONDS + rng.uniform(2, 4))
    _send(kafka, signal.SIGCONT)


@_fault("scale-streams", None)
async def _scale_streams(rig: Rig, rng: random.Random) -> None:
    """1 → 3 → 1."""
    async with _added(rig, ["streams-2", "streams-3"]):
        await asyncio.sleep(rng.uniform(3, 6))


@_fault("scale-workers", None)
async def _scale_workers(rig: Rig, rng: random.Random) -> None:
    """2 → 1 → 4 → 1 → 2."""
    await rig.remove("worker-2")
    async with _added(rig, ["worker-3", "worker-4", "worker-5"]):
        await asyncio.sleep(rng.uniform(3, 6))
    await rig.add("worker-2")


@_fault("wipe-state", 15)
async def _wipe_state(rig: Rig, rng: random.Random) -> None:
    """kill -9 of the streams, and their tables deleted before they start again."""
    [streams] = rig.of("streams")
    _send(streams, signal.SIGKILL)
    await asyncio.to_thread(_wait_until_gone, streams)
    shutil.rmtree(rig.plan.overrides["streams_state_dir"], ignore_errors=True)


@_fault("full-disk-kafka", None)
async def _full_disk_kafka(rig: Rig, rng: random.Random) -> None:
    async with _full_disk(rig, ["kafka"]):
        await asyncio.sleep(rng.uniform(4, 8))


@_fault("full-disk", None)
async def _full_disk_all(rig: Rig, rng: random.Random) -> None:
    """Kafka, streams and workers can't grow a file, nor can anybody's log. Not ClickHouse: see docs/reliability.md."""
    async with _full_disk(rig, ["ingress", "streams", "worker", "analytics", "kafka"]):
        await asyncio.sleep(rng.uniform(4, 8))


@_fault("blackout", 30)
async def _blackout(rig: Rig, rng: random.Random) -> None:
    """kill -9 of everything at once."""
    for member in list(rig.members.values()):
        _send(member, signal.SIGKILL)


def _send(member: Member, number: signal.Signals) -> None:
    if number in (signal.SIGKILL, signal.SIGTERM):
        member.up.clear()
    if member.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, number)


def _wait_until_gone(member: Member) -> None:
    if member.pid is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.wait_procs([psutil.Process(member.pid)], timeout=5)


@asynccontextmanager
async def _added(rig: Rig, names: Iterable[str]) -> AsyncIterator[None]:
    names = list(names)
    await asyncio.gather(*(rig.add(name) for name in names))
    try:
        yield
    finally:
        await asyncio.gather(*(rig.remove(name) for name in names))


@asynccontextmanager
async def _full_disk(rig: Rig, services: list[str]) -> AsyncIterator[None]:
    """RLIMIT_FSIZE of nothing: each write to a file fails, as on a full disk (with EFBIG instead of ENOSPC). Whoever
    is started again meanwhile finds it no emptier."""
    keeping = asyncio.create_task(_keep_full(rig, services))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        _limit(rig, services, _NO_LIMIT)


async def _keep_full(rig: Rig, services: list[str]) -> None:
    while True:
        _limit(rig, services, 0)
        await asyncio.sleep(0.2)


def _limit(rig: Rig, services: list[str], size: int) -> None:
    for member in (member for service in services for member in rig.of(service)):
        if member.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (size, _NO_LIMIT))
