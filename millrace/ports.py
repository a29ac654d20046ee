"""Ports of this machine: finding a free one, and saying who holds one that is not."""

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice

import psutil

from contracts.errors import StackError

_LAST_PORT = 65_535


def free_port(host: str = "127.0.0.1") -> int:
    """Free at this moment; nothing reserves it."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def ports_from(first: int, count: int, host: str, taken: Iterable[int] = ()) -> list[int]:
    """So many that are free at this moment, from `first` up, but for those that others will take; any when it is 0."""
    if first:
        free = (port for port in range(first, _LAST_PORT) if can_bind(host, port))
        return list(islice((port for port in free if port not in {*taken}), count))
    with ExitStack() as held:  # else the same one could come twice
        sockets = [held.enter_context(socket.create_server((host, 0))) for _ in range(count + len([*taken]))]
        ports = [sock.getsockname()[1] for sock in sockets]
    return [port for port in ports if port not in {*taken}][:count]


def can_bind(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def check_port(host: str, port: int, *, purpose: str, remedy: str) -> None:
    """Raises StackError when something listens there already."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger don't count
        try:
            sock.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = f"is in use{_holder(port)}" if taken else f"can't be used ({error.strerror})"
            raise StackError(f"Port {port}, wanted for {purpose}, {reason}; {remedy}.") from None


def is_open(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex((host, port)) == 0


def _holder(port: int) -> str:
    """As far as the system tells: other users' processes stay unnamed."""
    try:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        pid = next(c.pid for c in listening if getattr(c.laddr, "port", None) == port and c.pid)
        return f" by {psutil.Process(pid).name()} (process {pid})"
    except (StopIteration, psutil.Error):
        return ""
