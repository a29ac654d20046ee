"""One run: the rig under load, fault after fault, and then the count."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.chaos.answers import Door, Told
from tests.chaos.books import Evidence, Finding, balance
from tests.chaos.commits import StaleCommit, stale_commits
from tests.chaos.disk_faults import FULL_DISK_LEDGER
from tests.chaos.evidence import Heard, gather, quiet
from tests.chaos.faults import FAULTS, NotHappened
from tests.chaos.load import Load
from tests.chaos.rig import Rig
from tests.chaos.schedule import rounds
from tests.chaos.spending import overspent

LATE_SECONDS = 2.0  # an answer that took longer was held up
_CALM_SECONDS = 2.0  # between a recovery and the next fault
_HEAL_SECONDS = 90.0
_WARM_SECONDS = 5.0
_SHOWN = 2  # broken tries of a round
_INFLICT_SECONDS = 600.0  # the longest fault takes a quarter of it

Say = Callable[[str], None]


@dataclass
class Round:
    """One fault, or several at once, and the requests that were asked from then until the next."""

    faults: tuple[str, ...]
    began: float  # monotonic, seconds
    ended: float = 0.0
    told: list[Told] = field(default_factory=list)
    doors: Counter[Door] = field(default_factory=Counter)  # by which the calls came that it held up
    held_up: list[float] = field(default_factory=list)  # from the fault until each answer that it held up, seconds
    failed: list[str] = field(default_factory=list)  # tries that broke meanwhile
    void: list[str] = field(default_factory=list)  # why it proves nothing: a fault that did not happen

    @property
    def name(self) -> str:
        return self.faults[0] if len(self.faults) == 1 else "mixed"

    @property
    def keys(self) -> set[str]:
        return {told.ask.key for told in self.told}

    @property
    def recovery_seconds(self) -> float:
        """From the fault until the last answer that it held up; 0 when none was."""
        return max(self.held_up, default=0.0)

    def end(self, told: list[Told], first: int) -> None:
        """`told` is of the whole run; what was asked in this round begins with `first`."""
        self.ended = time.monotonic()
        self.told = told[first:]
        late = [(one, answered) for one in told if (answered := _held_up(one)) and answered > self.began]
        late += [(one, self.ended) for one in told if _waits(one) and one.asked_at < self.ended - LATE_SECONDS]
        self.held_up = [answered - self.began for _, answered in late]
        self.doors = Counter(one.ask.door for one, _ in late)
        troubles = [trouble for one in told for trouble in one.troubles if trouble.failed and trouble.at > self.began]
        self.failed = [trouble.what for trouble in troubles]


def _held_up(told: Told) -> float | None:
    """When an answer came that took longer than it should."""
    late = told.ask.timed and told.answered_at is not None and told.answered_at - told.asked_at > LATE_SECONDS
    return told.answered_at if late else None


def _waits(told: Told) -> bool:
    return told.ask.timed and not told.over


@dataclass
class Outcome:
    """What a run came to."""

    brokers: int
    rounds: list[Round]
    evidence: Evidence
    findings: list[Finding]
    stale: list[StaleCommit]


async def run(
    data_dir: Path,
    *,
    seed: int,
    names: Sequence[str],
    seconds: float,
    per_second: float,
    say: Say,
    brokers: Literal[1, 3] = 1,
) -> Outcome:
    """`seconds` of faults (a round that has begun is brought to its end), then the count."""
    async with _rig(data_dir, say, brokers) as rig:
        load = Load(rig.urls, rig.settings, per_second, seed)
        try:
            await load.start()
            done = await _fault_after_fault(rig, load, seed, _possible(rig, names, say), seconds, say)
            say("counting")
            await load.drain()
            await quiet(rig.settings)
            stale = await stale_commits(rig.settings)
            off = [(one.began, one.ended) for one in done if any(name.startswith("clock-") for name in one.faults)]
            evidence = await gather(rig.settings, rig.ledger_url, Heard(load.told, load.deletions, off))
        finally:
            await load.close()
        return Outcome(brokers, done, evidence, [*balance(evidence), *overspent(evidence)], stale)


def _possible(rig: Rig, names: Sequence[str], say: Say) -> list[str]:
    """Without what this machine can't do."""
    left_out = {FULL_DISK_LEDGER} if rig.small_disk is None else set()
    for name in sorted(left_out & set(names)):
        say(f"LEFT OUT: {name}: this machine gives no mount namespace to a user")
    return [name for name in names if name not in left_out]


async def _fault_after_fault(
    rig: Rig, load: Load, seed: int, names: Sequence[str], seconds: float, say: Say
) -> list[Round]:
    rng = random.Random(f"details {seed}")
    done: list[Round] = []
    await asyncio.sleep(_WARM_SECONDS)
    deadline = time.monotonic() + seconds
    for faults in rounds(seed, names) if names else ():
        if time.monotonic() > deadline:
            break
        first = len(load.told)
        say(f"round {len(done) + 1}: {' + '.join(faults)}")
        one = Round(faults, time.monotonic())
        done.append(one)
        one.void = [why for why in await asyncio.gather(*(_inflict(name, rig, rng) for name in faults)) if why]
        for why in one.void:
            say(f"  VOID: {why}")
        await _healed(rig, load, say)
        one.end(load.told, first)
        doors = ", ".join(f"{count} {door}" for door, count in sorted(one.doors.items())) or "none"
        say(f"  {len(one.told)} calls, {len(one.failed)} broke, held up: {doors}; {one.recovery_seconds:.1f} s")
        for what in one.failed[:_SHOWN]:
            say(f"    {what[:140]}")
    return done


async def _inflict(name: str, rig: Rig, rng: random.Random) -> str | None:
    """Why it did not happen, or None."""
    try:
        async with asyncio.timeout(_INFLICT_SECONDS):
            await FAULTS[name].inflict(rig, rng)
    except NotHappened as error:
        return f"{name}: {error}"
    except TimeoutError:
        return f"{name}: not done within {_INFLICT_SECONDS:.0f} s"
    return None


async def _healed(rig: Rig, load: Load, say: Say) -> None:
    """Everything is ready and nobody waits for long, for a while. What never heals is left to the count."""
    try:
        async with asyncio.timeout(_HEAL_SECONDS):
            await rig.healthy()
            calm_since = time.monotonic()
            while time.monotonic() - calm_since < _CALM_SECONDS:
                await asyncio.sleep(0.1)
                if load.late(LATE_SECONDS):
                    calm_since = time.monotonic()
    except TimeoutError:
        say(f"  not healed within {_HEAL_SECONDS:.0f} s: {len(load.late(LATE_SECONDS))} calls wait")


@asynccontextmanager
async def _rig(data_dir: Path, say: Say, brokers: Literal[1, 3]) -> AsyncIterator[Rig]:
    rig = Rig(data_dir, lambda text: say(f"  {text.splitlines()[0]}"), brokers)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()
