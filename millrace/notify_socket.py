"""The supervisor's end of sd_notify(3): a child says READY=1 when it can do its work."""

import asyncio
import secrets
import socket
from typing import Self


class NotifySocket:
    """One per start of a child. Its address is abstract (unix(7)): no file, no limit by the length of a path."""

    def __init__(self) -> None:
        name = f"millrace-{secrets.token_hex(8)}"
        self.address = f"@{name}"  # as systemd writes it in $NOTIFY_SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def ready(self) -> None:
        """Returns when READY=1 has come; the caller sets the deadline."""
        loop = asyncio.get_running_loop()
        while b"READY=1" not in (await loop.sock_recv(self._socket, 4096)).split(b"\n"):
            pass
