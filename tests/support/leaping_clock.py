"""For what is about time alone: a clock that stands still while there is something to do, and then leaps to the next
timer. What such a test says of time is exact, on any machine. Nothing in it may use sockets or threads."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")
_BEGINNING = 1000.0  # seconds; nobody may take the first moment for never


def on_leaping_clock(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """For an async test: it runs on an event loop of its own, so it can't have async fixtures."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = _BEGINNING
        super().__init__(_Selector(self._leap))

    def time(self) -> float:
        return self._now

    def _leap(self, seconds: float) -> None:
        self._now += seconds


class _Selector(selectors.DefaultSelector):
    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer is set")
        self._leap(timeout)
        return super().select(0)
