"""The ingress process: Kafka on one side, HTTP on the other."""

import asyncio
import logging
import socket
from typing import Any

from starlette.types import ASGIApp

from contracts.catalogue import load_catalogue
from contracts.http_server import bind, serving
from contracts.runtime import notify_ready
from contracts.settings import Settings
from contracts.tokenizer import load_tokenizers
from ingress.app import build_app
from ingress.connection import connect
from ingress.gateway import Gateway
from ingress.metrics import Measured
from ingress.spans import TracedApp
from ingress.ws_protocol import WsProtocol

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
    tokenizers = load_tokenizers(catalogue, settings.routes_file)
    with bind(settings.ingress_host, settings.ingress_port, "INGRESS") as listener:  # a port in use is said at once
        connection = await connect(settings, catalogue, stop)
        if connection is None:
            return
        connection.gateway.tokenizers = tokenizers
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
    stopping = asyncio.create_task(stop.wait())
    options = _options(gateway.settings)
    try:
        async with serving(_application(gateway), listener, when_ready=notify_ready, **options) as server:
            await asyncio.wait((server.ended, stopping, background), return_when=asyncio.FIRST_COMPLETED)
            gateway.draining.set()
            patience_seconds = 0.0 if background.done() else gateway.settings.ingress_drain_seconds
            patience = asyncio.get_running_loop().call_later(patience_seconds, gateway.calls.end)
        patience.cancel()
    finally:
        stopping.cancel()
    if background.done():
        background.result()


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "http": "httptools",
        "ws": WsProtocol,
        "ws_max_size": settings.max_body_bytes + WS_ENVELOPE_BYTES,
        "ws_ping_interval": settings.ingress_heartbeat_seconds,
        "ws_ping_timeout": WS_PONG_SECONDS,
        "ws_per_message_deflate": False,  # tens of KiB of memory for each connection
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": int(settings.ingress_drain_seconds) + LAST_WRITES_SECONDS,
    }


def _application(gateway: Gateway) -> ASGIApp:
    app = build_app(gateway)
    return Measured(TracedApp(app, gateway.spans) if gateway.spans else app, app.routes, gateway)
