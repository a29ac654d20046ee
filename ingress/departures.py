"""Callers that hang up: the owner of a request's key is told, and decides when the last one has gone."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast, get_args

import structlog
from ulid import ULID

from contracts.envelope import OnDisconnect, RequestType
from contracts.errors import InvalidRequest, KafkaUnavailable
from contracts.headers import RawHeaders
from ingress.requestlog import RequestLog

log = structlog.get_logger()

HEADER = b"millrace-on-disconnect"
_WAYS = get_args(OnDisconnect)
_TRIES = 60
_PAUSE_SECONDS = 1.0


def chosen(headers: dict[bytes, bytes]) -> OnDisconnect | None:
    """What the caller itself wants. Raises InvalidRequest."""
    text = headers.get(HEADER, b"").decode("latin-1")
    if text and text not in _WAYS:
        raise InvalidRequest(f"Millrace-On-Disconnect is one of {', '.join(_WAYS)}.", param="Millrace-On-Disconnect")
    return cast("OnDisconnect | None", text or None)


@dataclass(slots=True)
class Departures:
    """Those who have hung up and may yet come back: who reconnects within the grace finds its request running.

    What is still pending when this process ends is never told, so its request runs on.
    """

    log: RequestLog
    origin: Callable[[str, RequestType], dict[str, bytes]]
    grace_seconds: float
    _pending: set[asyncio.Task[None]] = field(default_factory=set)

    def announce(self, key: bytes, caller: str, way: OnDisconnect) -> None:
        """That caller has gone."""
        leave = self.origin(str(ULID()), RequestType.LEAVE) | {"caller": caller.encode(), "on-disconnect": way.encode()}
        task = asyncio.create_task(self._tell(key, [*leave.items()]))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def forget(self) -> None:
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _tell(self, key: bytes, record: RawHeaders) -> None:
        await asyncio.sleep(self.grace_seconds)
        for _ in range(_TRIES):
            try:
                await self.log.append(key, b"", record)
            except KafkaUnavailable:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
        log.warning("a caller's leaving could not be told: its request runs on", key=key.decode())
