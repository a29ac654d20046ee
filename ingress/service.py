"""The ingress process: Kafka on one side, HTTP on the other."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from contracts.catalogue import load_catalogue
from contracts.errors import StackError
from contracts.runtime import notify_ready
from contracts.settings import Settings
from ingress.app import build_app
from ingress.connection import connect
from ingress.gateway import Gateway
from ingress.metrics import Measured
from ingress.spans import TracedApp

KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep a connection: they, not we, close an idle one
WS_ENVELOPE_BYTES = 65_536  # what a message may have around a body
WS_PONG_SECONDS = 20.0  # a client that doesn't answer a ping for so long has gone
LAST_WRITES_SECONDS = 5  # for answers that end when the drain is over


async def run(settings: Settings, *, stop: asyncio.Event) -> None:
    """Serve until `stop`; then take no more, let calls in flight end, and leave Kafka.

    Raises StackError when the port is taken, or when Kafka lacks a topic; waits for a Kafka that isn't there yet.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a line per attempt; the link says it once
    catalogue = load_catalogue(settings.routes_file)
    with contextlib.closing(_bind(settings)) as listener:
        connection = await connect(settings, catalogue, stop)
        if connection is None:
            return
        listening_to_kafka = asyncio.create_task(connection.run())
        try:
            await serve(connection.gateway, listener, stop, listening_to_kafka)
        finally:
            listening_to_kafka.cancel()
            await asyncio.wait((listening_to_kafka,))
            await connection.close()


async def serve(
    gateway: Gateway, listener: socket.socket, stop: asyncio.Event, background: "asyncio.Future[None]"
) -> None:
    """Until `stop`, or until `background` fails: its error is raised then."""
    server = _Server(_configure(gateway))
    serving = asyncio.create_task(server.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping, background), return_when=asyncio.FIRST_COMPLETED)
        gateway.draining = True
        server.should_exit = True
        patience_seconds = 0.0 if background.done() else gateway.settings.ingress_drain_seconds
        patience = asyncio.get_running_loop().call_later(patience_seconds, gateway.calls.end)
        await serving
        patience.cancel()
    finally:
        stopping.cancel()
        serving.cancel()
    if background.done():
        background.result()


def _configure(gateway: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        _application(gateway),
        http="httptools",
        ws="auto",
        ws_max_size=gateway.settings.max_body_bytes + WS_ENVELOPE_BYTES,
        ws_ping_interval=gateway.settings.ingress_heartbeat_seconds,
        ws_ping_timeout=WS_PONG_SECONDS,
        ws_per_message_deflate=False,  # tens of KiB of memory for each connection
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(gateway.settings.ingress_drain_seconds) + LAST_WRITES_SECONDS,
    )


def _application(gateway: Gateway) -> ASGIApp:
    app = build_app(gateway)
    return Measured(TracedApp(app, gateway.spans) if gateway.spans else app, app.routes, gateway)


class _Server(uvicorn.Server):
    """Told to stop by `should_exit` only, and says when it listens."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify_ready()


def _bind(settings: Settings) -> socket.socket:
    """Taken before Kafka is asked, so that a port in use is said at once."""
    host, port = settings.ingress_host, settings.ingress_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StackError(_why_not(error, host, port)) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use: stop what listens there, or set MILLRACE_INGRESS_PORT."
    reason = os.strerror(error.errno).lower() if isinstance(error.errno, int) and error.errno > 0 else str(error)
    return f"The API can't listen on {host}:{port} ({reason}): set MILLRACE_INGRESS_HOST and MILLRACE_INGRESS_PORT."
