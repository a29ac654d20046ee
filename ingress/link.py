"""Whether Kafka answers, as deliveries and a probe each second show: a caller is refused at once, not late."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

PROBE_SECONDS = 1.0


class Link:
    """Up until something is overdue; up again by a delivery, or by a probe when nothing is overdue any more."""

    def __init__(self) -> None:
        self.up = True
        self._overdue = 0
        self._was_down = False

    def delivered(self) -> None:
        """Kafka acknowledged a record."""
        self._set(up=True)

    def late(self, delivery: "asyncio.Future[object]") -> None:
        """Nobody waits for this delivery any more, but until it ends there is no use in handing over the next."""
        self._overdue += 1
        delivery.add_done_callback(self._settled)
        self._set(up=False)

    def probed(self, *, answered: bool) -> None:
        """Kafka answered the probe, or didn't."""
        if not answered:
            self._set(up=False)
        elif not self._overdue:
            self._set(up=True)

    async def watch(
        self,
        probe: Callable[[], Awaitable[bool]],
        on_recovery: Callable[[], Awaitable[None]],
        every_seconds: float = PROBE_SECONDS,
    ) -> None:
        """Runs until cancelled; `on_recovery` is awaited each time that Kafka is back."""
        while True:
            await asyncio.sleep(every_seconds)
            self.probed(answered=await probe())
            if self.up and self._was_down:
                self._was_down = False
                await on_recovery()

    def _settled(self, delivery: "asyncio.Future[object]") -> None:
        self._overdue -= 1
        if not delivery.cancelled() and delivery.exception() is None:
            self._set(up=True)

    def _set(self, *, up: bool) -> None:
        if up == self.up:
            return
        self.up = up
        self._was_down = self._was_down or not up
        if up:
            log.info("Kafka is back: requests are accepted again")
        else:
            log.warning("Kafka doesn't answer: requests are refused until it does")
