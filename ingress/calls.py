"""Callers that wait for frames, and the hand-over of each frame to those whom it concerns."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

from starlette.types import Receive

from contracts.headers import RawHeaders
from ingress.frame import DELTA, RawFrame

MOST_HELD_BYTES = 262_144  # of one caller's chunks: more wait in Kafka for a client that reads slowly


class FrameRecord(Protocol):
    """A record on `responses`, as aiokafka gives it."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Call:
    """One caller that waits. A context manager: frames for it are kept from opening to closing."""

    __slots__ = (
        "_calls",
        "_frames",
        "_held_bytes",
        "_timer",
        "_until",
        "_waiter",
        "_watcher",
        "ids",
        "key",
        "lagging",
        "on_hang_up",
        "over",
        "record",
    )

    def __init__(self, calls: "Calls", key: bytes, ce_ids: Iterable[str]) -> None:
        self.key = key
        self.ids = {ce_id.encode() for ce_id in ce_ids}  # of the records that ask on its behalf
        self.record: tuple[bytes, RawHeaders] | None = None  # what was asked, once Kafka has it
        self.over = False  # nobody waits any longer: the client has gone, or this process must stop
        self.lagging = False  # deltas were passed over, since the client didn't take those before them
        self.on_hang_up: Callable[[], None] | None = None  # when it is the client who has gone
        self._calls = calls
        self._frames: list[RawFrame] = []
        self._held_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0  # loop time, seconds

    def follow(self, receive: Receive) -> None:
        """End the wait when the client hangs up."""
        self._watcher = asyncio.create_task(self._watch(receive))

    def push(self, frame: RawFrame) -> None:
        if self._held_bytes > MOST_HELD_BYTES and frame.kind == DELTA:
            self.lagging = True
            return
        self._held_bytes += len(frame.value)
        self._frames.append(frame)
        self._wake()

    def end(self) -> None:
        """Wait no longer."""
        self.over = True
        self._wake()

    async def frames(self, until: float) -> list[RawFrame]:
        """Frames since the last call, at least one; none when `until` (loop time, seconds) came or the wait is over."""
        if not self._frames and not self.over:
            self._waiter = asyncio.get_running_loop().create_future()
            self._wake_at(until)
            try:
                await self._waiter
            finally:
                self._waiter = None
        frames, self._frames = self._frames, []
        if not self.lagging:  # else a gap would come
            self._held_bytes = 0
        return frames

    def take_in_again(self) -> None:
        """Lag no longer: what was passed over will come again."""
        self.lagging, self._held_bytes = False, 0

    async def last_frame(self, until: float) -> RawFrame | None:
        """The frame that ends the request; None when `until` came first or the wait is over."""
        while frames := await self.frames(until):
            for frame in frames:
                if frame.terminal:
                    return frame
        return None

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._calls.close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end()
        if self.on_hang_up is not None:
            self.on_hang_up()

    def _wake_at(self, until: float) -> None:
        """One timer outlives many waits, since a stream's next frame puts its end off: it is set anew when it rings."""
        self._until = until
        if self._timer is not None and self._timer.when() > until:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if asyncio.get_running_loop().time() < self._until:
            self._wake_at(self._until)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


AnyCall = TypeVar("AnyCall", bound=Call)


class Calls:
    """The callers of this process, by record key. Several may wait for one request."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, list[Call]] = {}
        self._over = False

    def __iter__(self) -> Iterator[Call]:
        return iter([call for calls in self._by_key.values() for call in calls])

    def open(self, key: bytes, *ce_ids: str) -> Call:
        """A caller of the request `key`, who is also told what answers one of these records alone."""
        return self.enter(Call(self, key, ce_ids))

    def enter(self, call: AnyCall) -> AnyCall:
        """From now on it is told."""
        call.over = self._over
        self._by_key.setdefault(call.key, []).append(call)
        return call

    def close(self, call: Call) -> None:
        """Frames for it are dropped from now on. Closing twice does nothing."""
        calls = self._by_key.get(call.key, [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._by_key.pop(call.key, None)

    def end(self) -> None:
        """Let nobody wait any longer, nor from now on."""
        self._over = True
        for call in self:
            call.end()

    def dispatch(self, records: Iterable[FrameRecord]) -> None:
        """Other processes' frames come by as well when they share the reply address: their keys are unknown here."""
        by_key = self._by_key
        for record in records:
            calls = by_key.get(record.key or b"")
            if calls is None:
                continue
            frame = RawFrame(dict(record.headers), record.value or b"")
            asker = frame.headers.get("in-reply-to")
            for call in calls:
                if asker is None or asker in call.ids:
                    call.push(frame)
