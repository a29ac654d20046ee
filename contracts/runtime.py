"""How every service runs: uvloop, one stop event set by SIGTERM and SIGINT, readiness told to whoever supervises."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import uvloop

from contracts import tracing
from contracts.errors import MillraceError
from contracts.logs import configure_logging
from contracts.metrics_port import metrics_port
from contracts.settings import Settings

_SERVICES = {"inference": "worker"}  # as operators know them, where the package has another name
Service = Callable[..., Awaitable[None]]  # async def run(settings, *, stop: asyncio.Event) -> None


def main(run: Service, settings: Settings) -> None:
    """Run a service until it is told to stop. Exit status 1, with one sentence, on a MillraceError."""
    configure_logging(settings)
    collect_rarely()
    try:
        tracing.start(_name_of(run))
        uvloop.run(_until_stopped(run, settings))
    except MillraceError as error:
        structlog.get_logger().error(error.message)
        sys.exit(1)
    finally:
        tracing.stop()


def _name_of(run: Service) -> str:
    package = run.__module__.partition(".")[0]
    return _SERVICES.get(package, package)


def collect_rarely() -> None:
    """Leave what is imported out of every collection, and collect seldom: at 64 concurrent requests that halves the
    CPU time of an ingress. Reference counts free nearly everything at once."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own handler writes what an exception says, which may quote a prompt."""
    structlog.get_logger().error(context["message"], logger="asyncio", exc_info=context.get("exception"))


async def _until_stopped(run: Service, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with metrics_port(settings, _name_of(run)):
        await run(settings, stop=stop)


def notify_ready() -> None:
    """systemd's sd_notify(3) protocol, so that a unit with Type=notify works as the one-machine stack does."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(b"READY=1")
