"""`GET /metrics`: each process's own port for Prometheus."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version

import structlog
import uvicorn
from starlette.types import Receive, Scope, Send

from contracts.instruments import exposition, gauges
from contracts.metrics import BUILD_INFO
from contracts.settings import Settings

_log = structlog.get_logger()
_PATH = "/metrics"
_SERVICES = {"inference": "worker"}  # as operators know them, where the package has another name


@asynccontextmanager
async def metrics_port(settings: Settings, package: str) -> AsyncIterator[int | None]:
    """Gives the port; None when it can't be had, for no service fails because nobody can watch it."""
    gauges(BUILD_INFO)[_SERVICES.get(package, package), version("millrace")].set(1)
    listener = _listen(settings.metrics_host, settings.metrics_port)
    if listener is None:
        yield None
        return
    port: int = listener.getsockname()[1]
    _log.debug("metrics port open", host=settings.metrics_host, port=port)
    server = _Server(
        uvicorn.Config(_serve, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none")
    )
    serving = asyncio.create_task(server.serve([listener]), name="metrics")
    try:
        yield port
    finally:
        server.should_exit = True
        await serving
        listener.close()


class _Server(uvicorn.Server):
    """Signals are the service's own matter."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(scope: Scope, _receive: Receive, send: Send) -> None:
    assert scope["type"] == "http", "there is nothing else here"
    if scope["path"] != _PATH:
        await _answer(send, 404, b"Metrics are at /metrics.\n", "text/plain")
        return
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    await _answer(send, 200, *exposition(accept.decode("latin-1")))


async def _answer(send: Send, status: int, body: bytes, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _listen(host: str, port: int) -> socket.socket | None:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        _log.warning("no metrics: set MILLRACE_METRICS_PORT", host=host, port=port, reason=error.strerror or str(error))
        return None
