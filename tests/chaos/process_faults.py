"""Processes that are killed, stopped, frozen, added and taken away."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import psutil

from tests.chaos.registry import NotHappened, fault
from tests.chaos.rig import Member, Rig

SESSION_SECONDS = 6.0  # of workers, streams and sink alike
_GONE_SECONDS = 30.0
_BACK_SECONDS = 120.0


def _kill(service: str, goal_seconds: float | None) -> None:
    @fault(f"kill-{service}", goal_seconds)
    async def kill(rig: Rig, rng: random.Random) -> None:
        """kill -9 of one."""
        await kill_one(rng.choice(rig.of(service)))


def _term(service: str, goal_seconds: float | None) -> None:
    @fault(f"term-{service}", goal_seconds)
    async def roll(rig: Rig, rng: random.Random) -> None:
        """A rolling restart: SIGTERM of each, the next when it is ready again (a broker: has caught up, too)."""
        for member in rig.of(service):
            before = member.pid
            _send(member, signal.SIGTERM)
            await _back(member)
            if member.pid == before:
                raise NotHappened(f"{member.name} outlived SIGTERM")
            if service == "kafka":
                await rig.replicated()


def _freeze(service: str, spare: str | None) -> None:
    @fault(f"freeze-{service}")
    async def freeze(rig: Rig, rng: random.Random) -> None:
        """SIGSTOP beyond the session timeout, so that another takes over where there is one, then CONT."""
        async with _added(rig, [spare] if spare else []):
            victim = rng.choice(rig.of(service))
            await _frozen(victim, SESSION_SECONDS + rng.uniform(2, 6))
            await asyncio.sleep(2)
            await _back(victim)


for _service, _goal in {"ingress": 3, "streams": 10, "worker": 10, "analytics": None, "kafka": 15}.items():
    _kill(_service, _goal)
    _term(_service, _goal)
for _service, _spare in {"ingress": None, "streams": "streams-2", "worker": None, "analytics": None}.items():
    _freeze(_service, _spare)


@fault("freeze-kafka")
async def _freeze_kafka(rig: Rig, rng: random.Random) -> None:
    """Kafka itself stands still for longer than every session; all members are zombies to it at once."""
    await _frozen(rng.choice(rig.of("kafka")), SESSION_SECONDS + rng.uniform(2, 4))


@fault("scale-streams")
async def _scale_streams(rig: Rig, rng: random.Random) -> None:
    """1 → 3 → 1."""
    async with _added(rig, ["streams-2", "streams-3"]):
        await asyncio.sleep(rng.uniform(3, 6))


@fault("scale-workers")
async def _scale_workers(rig: Rig, rng: random.Random) -> None:
    """2 → 1 → 4 → 1 → 2."""
    await rig.remove("worker-2")
    async with _added(rig, ["worker-3", "worker-4", "worker-5"]):
        await asyncio.sleep(rng.uniform(3, 6))
    await rig.add("worker-2")


@fault("wipe-state", 15)
async def _wipe_state(rig: Rig, rng: random.Random) -> None:
    """kill -9 of the streams, and their tables deleted before they start again."""
    [streams] = rig.of("streams")
    folder = rig.plan.overrides["streams_state_dir"]
    if not any(folder.iterdir()):
        raise NotHappened("the streams keep no state there")
    await kill_one(streams)
    shutil.rmtree(folder, ignore_errors=True)


@fault("blackout", 30)
async def _blackout(rig: Rig, rng: random.Random) -> None:
    """kill -9 of everything at once."""
    await asyncio.gather(*(kill_one(member) for member in list(rig.members.values())))


async def kill_one(member: Member) -> None:
    """kill -9. Raises NotHappened when the process goes on."""
    pid = member.pid
    _send(member, signal.SIGKILL)
    try:
        async with asyncio.timeout(_GONE_SECONDS):
            while pid is not None and _state(pid) not in (None, psutil.STATUS_ZOMBIE):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise NotHappened(f"{member.name} outlived SIGKILL") from None


async def _frozen(member: Member, seconds: float) -> None:
    _send(member, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    stopped = member.pid is not None and _state(member.pid) == psutil.STATUS_STOPPED
    _send(member, signal.SIGCONT)
    if not stopped:
        raise NotHappened(f"{member.name} did not stand still")


async def _back(member: Member) -> None:
    """It is ready, perhaps again. What never comes back is left to the count."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BACK_SECONDS):
            await member.up.wait()


def _send(member: Member, number: signal.Signals) -> None:
    if number in (signal.SIGKILL, signal.SIGTERM):
        member.up.clear()
    if member.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, number)


def _state(pid: int) -> str | None:
    """None when there is no such process."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


@asynccontextmanager
async def _added(rig: Rig, names: Iterable[str]) -> AsyncIterator[None]:
    names = list(names)
    await asyncio.gather(*(rig.add(name) for name in names))
    try:
        yield
    finally:
        await asyncio.gather(*(rig.remove(name) for name in names))
