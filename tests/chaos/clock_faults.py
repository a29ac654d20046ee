"""Clocks that jump."""

import asyncio
import random
import time

from contracts.topics import Topics
from millrace.polling import until
from tests.chaos.proof import Window
from tests.chaos.registry import NotHappened, fault
from tests.chaos.rig import Member, Rig
from tests.chaos.switches import CLOCK

_LEAST_SECONDS, _MOST_SECONDS = 300.0, 1200.0
_SIGN_SECONDS = 90.0  # for a record with a wrong time to arrive


def _jump(service: str, topic: str) -> None:
    @fault(f"clock-{service}")
    async def jump(rig: Rig, rng: random.Random) -> None:
        """One clock goes minutes ahead, then minutes back, then right again."""
        victim, seconds = rng.choice(rig.of(service)), rng.uniform(_LEAST_SECONDS, _MOST_SECONDS)
        name = getattr(Topics.of(rig.settings), topic)
        for ahead in (seconds, -seconds):
            await _stray(rig, victim, name, ahead)
        await asyncio.sleep(1)


for _service, _topic in {"ingress": "requests", "streams": "admitted", "worker": "completions"}.items():
    _jump(_service, _topic)


async def _stray(rig: Rig, victim: Member, topic: str, ahead: float) -> None:
    """Until some record of the log tells the wrong time, and a little longer."""
    window, switches, began = await Window.open(rig.settings, topic), rig.switches(victim.name), time.time()

    async def seen() -> bool:
        first, last = (began + ahead / 2) * 1000, (time.time() + ahead / 2) * 1000
        stamps = [record.timestamp for record in await window.records()]
        return any(stamp > last if ahead > 0 else stamp < first for stamp in stamps)

    switches.set(CLOCK, ahead)
    try:
        async with asyncio.timeout(_SIGN_SECONDS):
            await until(seen)
        await asyncio.sleep(2)
    except TimeoutError:
        raise NotHappened(f"no record on {topic} was {ahead:+.0f} s off") from None
    finally:
        switches.clear(CLOCK)
