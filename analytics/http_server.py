"""An HTTP server within the service's own event loop, stopped by the service and not by signals."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from contracts.errors import StackError


@asynccontextmanager
async def serving(
    app: Starlette, host: str, port: int, *, variable: str = "ANALYTICS_PORT", patience_seconds: int | None = None
) -> AsyncIterator[int]:
    """Gives the port, which 0 leaves to the system; `variable` is the setting that names it. At its end answers have
    `patience_seconds` to come to theirs; None: as long as they take. Raises StackError when the port can't be had."""
    sock = _listen(host, port, variable)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=patience_seconds,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        sock.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int, variable: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # asyncio sets TCP_NODELAY only where it says TCP
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
        raise StackError(f"Analytics' port {host}:{port} {reason}; set MILLRACE_{variable} to another.") from None
    return sock
