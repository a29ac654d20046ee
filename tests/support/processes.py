"""Small programs to supervise, and waiting for processes without polling."""

import asyncio
import os
import sys
from pathlib import Path

from millrace.service_process import ServiceProcess, ServiceSpec

DEADLINE_SECONDS = 60.0

NOTIFY = """
import os, signal, socket, sys, time
def ready():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
        sock.sendall(b"READY=1")
"""
SERVE = NOTIFY + "ready(); signal.pause()"
IGNORES_SIGTERM = NOTIFY + "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready()\nwhile True: signal.pause()"


def service(
    folder: Path,
    program: str,
    *,
    name: str = "child",
    stop_rank: int = 0,
    ready_seconds: float = DEADLINE_SECONDS,
    stop_seconds: float = DEADLINE_SECONDS,
) -> ServiceProcess:
    """A Python program given as its text."""
    return ServiceProcess(
        ServiceSpec(
            name=name,
            command=[sys.executable, "-S", "-c", program],
            environment={"FOLDER": str(folder)},
            log=folder / f"{name}.log",
            stop_rank=stop_rank,
            ready_seconds=ready_seconds,
            stop_seconds=stop_seconds,
        )
    )


def alive(pid: int) -> bool:
    """False for a zombie too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(pid: int) -> None:
    """Returns when the process has ended. Raises TimeoutError past the deadline."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
