"""Keeps children running: starts them together, restarts what dies, stops all in order."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from contracts.errors import StackError
from millrace.child_process import explain_status


class Child(Protocol):
    """A process that can be started again after it has ended."""

    name: str
    log: Path
    stop_rank: int  # lower stops earlier; equals stop together

    @property
    def pid(self) -> int | None: ...

    async def start(self) -> None:
        """Returns when it is ready; raises StackError, leaving nothing running."""

    async def wait(self) -> int:
        """Its status, once it has ended."""
        ...

    async def stop(self) -> bool:
        """Within its own limit; False when it had to be killed."""
        ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `first` to `longest`; a child that ran for `healthy` begins anew. All in seconds."""

    first: float = 0.5
    longest: float = 30.0
    healthy: float = 30.0

    def next(self, previous: float | None, ran: float) -> float:
        """The wait before a restart, from the wait before (None: the first death) and how long the child ran."""
        if previous is None or ran >= self.healthy:
            return self.first
        return min(previous * 2, self.longest)


class Supervisor:
    """`say` gets a line for each event that a person should know of; `changed` is called when a child came or went."""

    def __init__(
        self,
        say: Callable[[str], None],
        backoff: Backoff | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._say = say
        self._backoff = backoff or Backoff()
        self._changed = changed
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self.children: list[Child] = []

    async def start(self, *children: Child) -> None:
        """All at once; returns when each is ready. Raises the first StackError; the caller then calls stop()."""
        self.children += children
        starts = [asyncio.create_task(self._begin(child)) for child in children]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise

    async def stop(self) -> None:
        """In the order of their ranks, each within its limit. Nothing runs afterwards."""
        await self._let_go()
        self.children.sort(key=attrgetter("stop_rank"))
        for _, together in groupby(self.children, key=attrgetter("stop_rank")):
            await asyncio.gather(*(self._end(child) for child in together))
        self.children.clear()

    def kill(self) -> None:
        """Everything at once: for someone who can't wait. stop() then returns at once."""
        for child in self.children:
            child.kill()

    async def _begin(self, child: Child) -> None:
        await child.start()
        self._keepers[child.name] = asyncio.create_task(self._keep(child))
        self._changed()

    async def _keep(self, child: Child) -> None:
        delay = None
        started = time.monotonic()
        while True:
            status = await child.wait()
            delay = self._backoff.next(delay, time.monotonic() - started)
            self._changed()
            self._say(f"{child.name} stopped ({explain_status(status)}); starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            started = time.monotonic()
            await self._restart(child)

    async def _restart(self, child: Child) -> None:
        """A failed start counts as one more death: wait() returns its status at once."""
        try:
            await child.start()
        except (StackError, OSError) as error:
            self._say(str(error))
        else:
            self._say(f"{child.name} is ready again")
        self._changed()

    async def _let_go(self) -> None:
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        self._keepers.clear()

    async def _end(self, child: Child) -> None:
        if not await child.stop():
            self._say(f"{child.name} did not stop in time and was killed; see {child.log}")
