"""Following a request that was asked before: the log tells how it stands, and its deltas are read again."""

import asyncio
from dataclasses import dataclass

import orjson
from ulid import ULID

from contracts.envelope import OnDisconnect, RequestType
from contracts.errors import IdempotencyKeyReused, MillraceError, StillRunning
from ingress.calls import Call
from ingress.event_id import EventId
from ingress.frame import DELTA, ERROR, FINAL, STATE, RawFrame
from ingress.gateway import Gateway
from ingress.stream import AnswerStream
from ingress.wire import SSE, Wire


class Refused(Exception):  # noqa: N818 - what it says is the answer
    """The log's refusal of an asker: its frame is the answer."""

    def __init__(self, frame: RawFrame) -> None:
        super().__init__(frame.status)
        self.frame = frame


class Following(Call):
    """A caller whose deltas come from the history, in order; the end waits until all that came before it was heard."""

    __slots__ = ("_claim", "_end", "_gateway", "_listening_to", "_run", "_sequence", "_up_to_date", "on_disconnect")

    def __init__(self, gateway: Gateway, key: bytes, on_disconnect: OnDisconnect = "detach") -> None:
        super().__init__(gateway.calls, key, ())
        self.on_disconnect = on_disconnect
        self._gateway = gateway
        self._claim = b""
        self._run, self._sequence = b"", 0  # of the last delta
        self._listening_to: tuple[str, int] | None = None  # reply address, since (UTC ms)
        self._up_to_date = False
        self._end: RawFrame | None = None

    def push(self, frame: RawFrame) -> None:
        """From this process's own reply address, which may be where the deltas come from too."""
        if frame.kind == DELTA:
            return
        if "outcome" in frame.headers and self._end is None:
            self._end = end_of(frame)
            if self._up_to_date:
                super().push(self._end)
        if frame.kind == STATE or "outcome" not in frame.headers:
            super().push(frame)

    def hear(self, frame: RawFrame) -> None:
        headers = frame.headers
        if self._claim and headers.get("claim") != self._claim:
            return
        run, sequence = headers["run"], frame.number("sequence")
        if run == self._run and sequence <= self._sequence:
            return  # the reader went back for somebody else
        super().push(frame)
        if not self.lagging:
            self._run, self._sequence = run, sequence

    def up_to_date(self) -> None:
        self._up_to_date = True
        if self._end:
            super().push(self._end)

    async def listen(self, address: str, since_ms: int, claim: bytes = b"") -> None:
        self._claim = claim
        self._listening_to = address, since_ms
        await self._gateway.history.listen(self, address, since_ms)

    async def listen_again(self) -> None:
        """What was passed over while the client didn't read."""
        assert self._listening_to is not None, "who lags has listened"
        self._gateway.history.leave(self)
        self.take_in_again()
        self._up_to_date = False
        await self._gateway.history.listen(self, *self._listening_to)

    def close(self) -> None:
        self._gateway.history.leave(self)
        super().close()


def end_of(frame: RawFrame) -> RawFrame:
    """The frame that ends a request; from a state's when that has ended."""
    if frame.kind != STATE:
        return frame
    state = orjson.loads(frame.value)
    if state.get("response") is not None:
        return RawFrame(frame.headers | {"kind": FINAL}, orjson.dumps(state["response"]))
    error = state.get("error")
    body = orjson.dumps(error) if error else MillraceError("The request has ended, and nothing says how.").body()
    return RawFrame(frame.headers | {"kind": ERROR}, body)


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a caller wants to hear of a request."""

    key: bytes
    after: EventId
    include_usage: bool = False
    fingerprint: str = ""  # of the body that the caller takes it to have; any when empty


async def follow(gateway: Gateway, call: Following, wanted: Resumption, wire: Wire = SSE) -> AnswerStream:
    """The stream that the call's frames are for.

    Raises Refused, IdempotencyKeyReused, StillRunning, KafkaUnavailable.
    """
    state = await _standing(gateway, call)
    if wanted.fingerprint and state.text("fingerprint") not in ("", wanted.fingerprint):
        raise IdempotencyKeyReused("This idempotency key belongs to another request body.", param="Idempotency-Key")
    stream = AnswerStream(include_usage=wanted.include_usage, after=wanted.after, wire=wire)
    if "outcome" in state.headers and not stream.needs_deltas(end_of(state)):
        call.up_to_date()
    else:
        await call.listen(state.text("deltas-at"), state.number("accepted-at"), state.headers.get("claim", b""))
    return stream


async def _standing(gateway: Gateway, call: Following) -> RawFrame:
    ce_id = str(ULID())
    call.ids.add(ce_id.encode())
    until = asyncio.get_running_loop().time() + gateway.settings.ingress_wait_seconds
    headers = gateway.origin(ce_id, RequestType.ATTACH) | gateway.tells_when_gone(call, ce_id, call.on_disconnect)
    await gateway.ask(call, b"", list(headers.items()))
    while frames := await call.frames(until):
        for frame in frames:
            if frame.kind == STATE:
                return frame
            if frame.terminal:
                raise Refused(frame)
    raise StillRunning("How the request stands couldn't be learned in time: ask again.")
