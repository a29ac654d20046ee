"""`GET /v1/requests/{key}`: how a request stands, asked of the log, so that any replica can answer."""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp
from ulid import ULID

from contracts.envelope import OnDisconnect, RequestType
from contracts.errors import InvalidRequest, StillRunning
from ingress.answers import frame_answer, json_answer, key_headers
from ingress.calls import Call
from ingress.departures import chosen
from ingress.frame import STATE, RawFrame
from ingress.gateway import Gateway, gateway_of
from ingress.identity import identify_by_path
from ingress.place import with_place


async def get_request(request: Request) -> ASGIApp:
    gateway = gateway_of(request)
    settings = gateway.settings
    identity = identify_by_path(request, gateway.keyring)
    wait_seconds = wait_seconds_of(request, settings.ingress_max_wait_seconds)
    with gateway.calls.open(identity.key.encode()) as call:
        call.follow(request.receive)
        way = chosen(dict(request.scope["headers"])) or "detach"
        frame = await _Inquiry(gateway, call, settings.ingress_wait_seconds, way).standing(wait_seconds)
        if frame.kind == STATE and "outcome" not in frame.headers:
            frame = frame._replace(value=await with_place(gateway, call, frame))
    headers = [*key_headers(identity, settings.idempotency_window_hours), (b"cache-control", b"no-store")]
    return json_answer(frame.value, headers) if frame.kind == STATE else frame_answer(frame, headers)


def wait_seconds_of(request: Request, most_seconds: float, default: str = "0") -> float:
    """Query parameter `wait`. Raises InvalidRequest."""
    text = request.query_params.get("wait", default)
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest("wait is a whole number of seconds.", param="wait")
    return min(float(text), most_seconds)


@dataclass(slots=True)
class _Inquiry:
    gateway: Gateway
    call: Call
    patience_seconds: float  # how long the log may take to say how a request stands
    way: OnDisconnect

    async def standing(self, wait_seconds: float) -> RawFrame:
        """The request's state: as it is, or with `wait_seconds` once it has ended; or why it can't be told.

        Raises StillRunning when no state came in time.
        """
        now = asyncio.get_running_loop().time()
        await self._ask(RequestType.ATTACH if wait_seconds else RequestType.LOOKUP)
        until = now + (wait_seconds or self.patience_seconds)
        known: RawFrame | None = None
        while frames := await self.call.frames(until):
            for frame in frames:
                if frame.kind == STATE:
                    known = frame
                if _settles(frame, patient=wait_seconds > 0):
                    return frame
            if wait_seconds and any(frame.terminal for frame in frames):
                wait_seconds = 0  # it has ended: its state now is its last
                await self._ask(RequestType.LOOKUP)
                until = asyncio.get_running_loop().time() + self.patience_seconds
        if known is None:
            raise StillRunning("How the request stands couldn't be learned in time: ask again.")
        return known

    async def _ask(self, ce_type: RequestType) -> None:
        ce_id = str(ULID())
        self.call.ids.add(ce_id.encode())
        headers = self.gateway.origin(ce_id, ce_type)
        if ce_type is RequestType.ATTACH:
            headers |= self.gateway.tells_when_gone(self.call, ce_id, self.way)
        await self.gateway.ask(self.call, b"", list(headers.items()))


def _settles(frame: RawFrame, *, patient: bool) -> bool:
    """Whether a frame is what the caller wanted to know: the state, or that there is no such request."""
    if frame.kind == STATE:
        return not patient or "outcome" in frame.headers
    return frame.terminal and "outcome" not in frame.headers
