"""`GET /metrics`: each process's own port for Prometheus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
from starlette.types import Receive, Scope, Send

from contracts.errors import StackError
from contracts.http_server import bind, serving
from contracts.instruments import exposition, gauges
from contracts.metrics import BUILD_INFO
from contracts.settings import Settings

_log = structlog.get_logger()
_PATH = "/metrics"


@asynccontextmanager
async def metrics_port(settings: Settings, service: str) -> AsyncIterator[int | None]:
    """Gives the port; None when it can't be had, for no service fails because nobody can watch it."""
    gauges(BUILD_INFO)[service, version("millrace")].set(1)
    try:
        listener = bind(settings.metrics_host, settings.metrics_port, "METRICS")
    except StackError as error:
        _log.warning("no metrics", reason=error.message)
        yield None
        return
    async with serving(_serve, listener, ws="none") as server:
        _log.debug("metrics port open", host=settings.metrics_host, port=server.port)
        yield server.port


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
