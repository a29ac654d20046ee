"""Live updates by server-sent events: one connection a page, and one look at each source for all pages together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from analytics.clickhouse import ClickHouseError
from analytics.dashboard.session import Session, Sessions
from contracts.errors import MillraceError

_log = structlog.get_logger()
_HEARTBEAT_SECONDS = 15.0  # a comment, so that no proxy closes a quiet stream, and a revoked key is noticed
_WAITING = 50  # events that a page may be behind; beyond that it is told again by the next one
_FAILURES = (ClickHouseError, MillraceError, OSError)


@dataclass(frozen=True)
class Source:
    """Looked at so often while somebody watches; None is no news. What it says goes to every page as it is, so it may
    hold nothing of a tenant unless it is for operators only."""

    event: str
    every_seconds: float
    look: Callable[[], Awaitable[Any]]
    operators_only: bool = False
    rest: Callable[[], Awaitable[None]] | None = None  # when nobody watches any more


@dataclass(eq=False)
class _Page:
    operator: bool
    events: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_WAITING))

    def tell(self, event: bytes | None) -> None:
        if not self.events.full():
            self.events.put_nowait(event)


class Live:
    """Sources are looked at only while a page is open."""

    def __init__(self, sources: Sequence[Source], sessions: Sessions) -> None:
        self._sources, self._sessions = sources, sessions
        self._pages: set[_Page] = set()
        self._looking: list[asyncio.Task[None]] = []
        self._latest: dict[Source, bytes] = {}
        self._closed = False
        self._resting: asyncio.Future[list[None]] | None = None

    async def stream(self, session: Session, cookie: str) -> AsyncIterator[bytes]:
        """Until the page goes, its session ends, or the server does."""
        page = _Page(session.operator)
        self._enter(page)
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                event = await _next(page)
                self._sessions.judge(cookie)
                if event is None:
                    return
                yield event
        except MillraceError:
            yield _event("signed-out", {})
        finally:
            self._leave(page)

    def close(self) -> None:
        self._closed = True
        for page in self._pages:
            page.tell(None)

    def _enter(self, page: _Page) -> None:
        self._pages.add(page)
        for source, event in self._latest.items():
            if page.operator or not source.operators_only:
                page.tell(event)
        if not self._looking:
            self._looking = [asyncio.create_task(self._look(source)) for source in self._sources]

    def _leave(self, page: _Page) -> None:
        self._pages.discard(page)
        if not self._pages:
            for task in self._looking:
                task.cancel()
            self._latest.clear()
            rests = [source.rest() for source in self._sources if source.rest]
            self._looking = []
            self._resting = asyncio.gather(*rests)

    async def _look(self, source: Source) -> None:
        while True:
            try:
                news = await source.look()
            except _FAILURES as error:
                _log.info("a live source is silent", source=source.event, error=str(error)[:200])
            else:
                if news is not None:
                    self._tell(source, _event(source.event, news))
            await asyncio.sleep(source.every_seconds)

    def _tell(self, source: Source, event: bytes) -> None:
        self._latest[source] = event
        for page in self._pages:
            if page.operator or not source.operators_only:
                page.tell(event)


async def _next(page: _Page) -> bytes | None:
    try:
        async with asyncio.timeout(_HEARTBEAT_SECONDS):
            return await page.events.get()
    except TimeoutError:
        return b": still here\n\n"


def _event(name: str, value: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(value))
