"""`DELETE /v1/requests/{key}`: end a request early, asked of the log, so that any replica can be told."""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp
from ulid import ULID

from contracts.envelope import RequestType
from contracts.errors import StillRunning
from ingress.answers import frame_answer, json_answer, key_headers
from ingress.calls import Call
from ingress.frame import STATE, RawFrame
from ingress.gateway import Gateway, gateway_of
from ingress.identity import identify_by_path
from ingress.requests import wait_seconds_of

_WAIT_SECONDS = "10"  # unless the caller says otherwise
_PATIENCE_SECONDS = 5.0  # for the owner's word on what has just ended


async def cancel_request(request: Request) -> ASGIApp:
    """200 with its state once it has ended as cancelled, 202 when that will come, 409 when it had ended otherwise."""
    gateway = gateway_of(request)
    settings = gateway.settings
    identity = identify_by_path(request, gateway.keyring)
    seconds = max(wait_seconds_of(request, settings.ingress_max_wait_seconds, _WAIT_SECONDS), 1.0)
    with gateway.calls.open(identity.key.encode()) as call:
        call.follow(request.receive)
        frame = await cancel(gateway, call, seconds)
    headers = [*key_headers(identity, settings.idempotency_window_hours), (b"cache-control", b"no-store")]
    if frame.kind != STATE:
        return frame_answer(frame, headers)
    return json_answer(frame.value, headers, 200 if "outcome" in frame.headers else 202)


async def cancel(gateway: Gateway, call: Call, seconds: float) -> RawFrame:
    """What the owner of the call's key says: that it has ended as cancelled, that it will, or why not.

    Raises StillRunning when the owner said nothing in time; the wish stands all the same.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    patient = clock() + max(seconds, gateway.settings.ingress_wait_seconds)
    known: RawFrame | None = None
    await _wish(gateway, call)
    while frames := await call.frames(until if known else patient):
        for frame in frames:
            if frame.kind == STATE:
                known = frame
            if _is_last_word(frame):
                return frame
        if any(frame.terminal for frame in frames):  # how it ended, its owner says when asked again
            await _wish(gateway, call)
            until = max(until, clock() + _PATIENCE_SECONDS)
    if known is None:
        raise StillRunning("Whether the request could be cancelled couldn't be learned in time: ask again.")
    return known


def _is_last_word(frame: RawFrame) -> bool:
    """How it has ended, or why it can't be cancelled; not the request's own end, which is for all who wait for it."""
    if frame.kind == STATE:
        return "outcome" in frame.headers
    return frame.terminal and "outcome" not in frame.headers


async def _wish(gateway: Gateway, call: Call) -> None:
    ce_id = str(ULID())
    call.ids.add(ce_id.encode())
    await gateway.ask(call, b"", list(gateway.origin(ce_id, RequestType.CANCEL).items()))
