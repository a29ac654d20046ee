"""`millrace top`: the dashboard's flow on the terminal, again and again until somebody has seen enough."""

import asyncio
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live

from analytics.dashboard.flow import Flow
from analytics.dashboard.reading import Reading
from contracts.errors import StackError
from contracts.limit_usage import AccountUsage
from contracts.limits import Selector
from contracts.settings import Settings
from millrace.limits import ask_usage
from millrace.top_view import Frame, render

_EVERYBODY = Selector(tenant="*")
_LIMITS_EVERY = 10.0  # seconds
_FIRST_LOOKS_APART = 1.0  # seconds: a rate needs two
_QUIT = ("q", "Q", "\x1b", "\x03")


@dataclass
class Top:
    """`settings` name Kafka and a ClickHouse that answers over HTTP. Frames, one after the other."""

    settings: Settings
    title: str
    _accounts: Sequence[AccountUsage] = field(default=(), init=False)

    async def once(self, console: Console) -> None:
        reading = Reading(self.settings)
        flow = Flow(self.settings, reading)
        try:
            await flow.look()
            limits = asyncio.create_task(self._ask_limits())
            await asyncio.sleep(_FIRST_LOOKS_APART)
            await limits
            console.print(render(Frame(await flow.look(), self._accounts, self.title), console.width))
        finally:
            await flow.close()
            await reading.close()

    async def run(self, console: Console, every_seconds: float) -> None:
        """Until a key says so, or the terminal is gone."""
        enough = asyncio.Event()
        reading = Reading(self.settings)
        flow = Flow(self.settings, reading)
        limits = asyncio.create_task(self._follow_limits())
        try:
            with _keys(enough), Live(console=console, screen=True, auto_refresh=False) as live:
                while not enough.is_set():
                    frame = Frame(await flow.look(), self._accounts, self.title)
                    live.update(render(frame, console.width), refresh=True)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(enough.wait(), every_seconds)
        finally:
            limits.cancel()
            await asyncio.wait({limits})
            await flow.close()
            await reading.close()

    async def _follow_limits(self) -> None:
        while True:
            await self._ask_limits()
            await asyncio.sleep(_LIMITS_EVERY)

    async def _ask_limits(self) -> None:
        try:
            self._accounts, _ = await ask_usage(self.settings, _EVERYBODY)
        except StackError:  # the stages show that, too
            self._accounts = ()


@contextmanager
def _keys(enough: asyncio.Event) -> Iterator[None]:
    """Single keys, without echo, while standard input is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        if sys.stdin.read(1) in (*_QUIT, ""):
            enough.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
