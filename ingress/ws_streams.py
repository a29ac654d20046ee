"""What a WebSocket's client began: each its own task, all writing through one door."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
from starlette.websockets import WebSocketDisconnect
from ulid import ULID

from contracts.api_keys import ApiKey
from contracts.bodies import describe
from contracts.envelope import RequestType
from contracts.errors import MillraceError, StillRunning
from contracts.keys import RequestKey, check_idempotency_key, new_idempotency_key, parse_idempotency_header
from contracts.logs import concerns
from contracts.websocket import Cancel, Create, Follow
from ingress.attribution import envelope
from ingress.calls import Call
from ingress.event_id import START, EventId
from ingress.following import Following, Refused, Resumption, follow
from ingress.frame import ERROR, STATE
from ingress.gateway import Gateway
from ingress.identity import AUTO
from ingress.metrics import websocket_streams
from ingress.spans import trace_headers
from ingress.sse import tell
from ingress.stream import AnswerStream
from ingress.ws_door import Door
from ingress.ws_wire import WsWire

_ABANDONED = StillRunning("There was no news for too long; the request goes on: follow it again.")


@dataclass(slots=True)
class WsStreams:
    """Each method is one message's doing, from its beginning to the last thing said about it."""

    gateway: Gateway
    caller: ApiKey
    door: Door

    async def create(self, asked: Create) -> None:
        gateway, wire = self.gateway, WsWire(asked.ref)
        described = describe(orjson.dumps(asked.body | {"stream": True}), asked.operation, gateway.tokenizers)
        gateway.check_model(described.request.model)
        ce_id = str(ULID())
        key = RequestKey(self.caller.tenant, _name(asked.key, described.digest.fingerprint))
        headers = {name.lower().encode(): value.encode() for name, value in asked.headers.items()}
        way = gateway.on_disconnect(headers, described.digest)
        with gateway.calls.open(key.encode(), ce_id) as call, _attended(call), websocket_streams.track_inprogress():
            origin = gateway.origin(ce_id, RequestType.REQUEST) | gateway.tells_when_gone(call, ce_id, way)
            record = envelope(self.caller, described, headers, origin)
            if asked.key is None:
                gateway.capacity.check(key, described.digest, dict(record))
            concerns(key.encode(), record)
            await gateway.ask(call, orjson.dumps(asked.body | {"stream": True}), record)
            await self.door.say(wire.accepted(key.idempotency_key))
            await self._tell(call, AnswerStream(include_usage=described.digest.include_usage, wire=wire))

    async def follow(self, asked: Follow) -> None:
        wire = WsWire(asked.ref)
        after = EventId.parse(asked.after) if asked.after else START
        wanted = Resumption(self._key(asked.key), after, asked.include_usage)
        following = Following(self.gateway, wanted.key)
        with self.gateway.calls.enter(following) as call, _attended(call), websocket_streams.track_inprogress():
            try:
                stream = await follow(self.gateway, call, wanted, wire)
            except Refused as refusal:
                await self.door.say(wire.error(refusal.frame.value, refusal.frame.status))
                return
            await self._tell(call, stream)

    async def cancel(self, asked: Cancel) -> None:
        """Raises StillRunning when its owner doesn't say in time how the request stands."""
        wire, ce_id = WsWire(asked.ref), str(ULID())
        until = asyncio.get_running_loop().time() + self.gateway.settings.ingress_wait_seconds
        with self.gateway.calls.open(self._key(asked.key), ce_id) as call:
            await self.gateway.ask(call, b"", list(self.gateway.origin(ce_id, RequestType.CANCEL).items()))
            while frames := await call.frames(until):
                for frame in frames:
                    if frame.kind == STATE:
                        await self.door.say(wire.state(frame.value))
                        return
                    if frame.kind == ERROR and "in-reply-to" in frame.headers:
                        await self.door.say(wire.error(frame.value, frame.status))
                        return
        raise StillRunning("How the request stands couldn't be learned in time: ask again.")

    def _key(self, key: str) -> bytes:
        name = RequestKey(self.caller.tenant, check_idempotency_key(key)).encode()
        concerns(name, [*trace_headers().items()])
        return name

    async def _tell(self, call: Call, stream: AnswerStream) -> None:
        clock = asyncio.get_running_loop().time
        while not stream.closed:
            frames = await call.frames(clock() + self.gateway.settings.ingress_max_wait_seconds)
            if said := tell(call, stream, frames, _ABANDONED):
                await self.door.say(said)
            if call.lagging and isinstance(call, Following) and not stream.closed:
                await call.listen_again()


@contextmanager
def _attended(call: Call) -> Iterator[None]:
    """Whoever leaves before the end has hung up."""
    try:
        yield
    except (asyncio.CancelledError, WebSocketDisconnect):
        if call.on_hang_up is not None:
            call.on_hang_up()
        raise


def _name(key: str | None, fingerprint: str) -> str:
    if key is None:
        return new_idempotency_key()
    return f"{AUTO}-{fingerprint}" if key == AUTO else parse_idempotency_header(key)


def refusal(ref: str, error: MillraceError) -> bytes:
    return WsWire(ref).refuse(error)
