"""An HTTP server within a service's own event loop, stopped by the service and never by signals."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from contracts.errors import StackError


class Serving(NamedTuple):
    port: int
    ended: "asyncio.Task[None]"  # within the block only if the server fails


@asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, *, when_ready: Callable[[], None] = lambda: None, **options: Any
) -> AsyncIterator[Serving]:
    """Serve on `listener`, which is closed after it. At the block's end no connection is taken any more, and answers
    have `timeout_graceful_shutdown` seconds to come to theirs; None: as long as they take. `options` are uvicorn's."""
    with listener:
        listener.listen()  # whoever connects before uvicorn has started waits for it
        port: int = listener.getsockname()[1]
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, **options)
        server = _Server(config, when_ready)
        ended = asyncio.create_task(server.serve([listener]))
        try:
            yield Serving(port, ended)
        finally:
            server.should_exit = True
            await ended


def bind(host: str, port: int, settings: str) -> socket.socket:
    """A socket that has the port, which 0 leaves to the system, and doesn't listen yet. `settings` is what the names of
    the two begin with, as INGRESS. Raises StackError when the port can't be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY only where the protocol is named
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StackError(_why_not(error, host, port, f"MILLRACE_{settings}")) from None
    return listener


def _why_not(error: OSError, host: str, port: int, variable: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use: stop what listens there, or set {variable}_PORT."
    reason = os.strerror(error.errno).lower() if isinstance(error.errno, int) and error.errno > 0 else str(error)
    return f"Millrace can't listen on {host}:{port} ({reason}): set {variable}_HOST and {variable}_PORT."


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_ready = when_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_ready()
