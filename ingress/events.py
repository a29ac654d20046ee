"""`GET /v1/requests/{key}/events`, and a streamed POST that goes on where an earlier one was cut."""

from starlette.requests import Request
from starlette.types import ASGIApp

from contracts.envelope import Digest, OnDisconnect
from contracts.errors import InvalidRequest, StillRunning
from ingress.answers import Answer, frame_answer, key_headers
from ingress.departures import chosen
from ingress.event_id import START, End, EventId
from ingress.following import Following, Refused, Resumption, follow
from ingress.gateway import Gateway, gateway_of
from ingress.identity import Identity, identify_by_path
from ingress.preferences import prefer
from ingress.requests import wait_seconds_of
from ingress.sse import EventStream, Patience


async def get_events(request: Request) -> ASGIApp:
    gateway = gateway_of(request)
    most_seconds = gateway.settings.ingress_max_wait_seconds
    identity = identify_by_path(request, gateway.keyring)
    include_usage = request.query_params.get("include_usage", "") in ("1", "true")
    wanted = Resumption(identity.key.encode(), _last_event_id(request), include_usage)
    wait_seconds = wait_seconds_of(request, most_seconds, str(int(most_seconds)))
    way = chosen(dict(request.scope["headers"])) or "detach"
    return await _stream(request, identity, wanted, way, wait_seconds)


async def resume(request: Request, identity: Identity, asked: Digest, way: OnDisconnect) -> ASGIApp:
    """It never starts a run: what is to be gone on with was begun. Raises InvalidRequest without its key."""
    if identity.generated:
        raise InvalidRequest("Last-Event-ID goes with the Idempotency-Key of the stream.", param="Idempotency-Key")
    settings = gateway_of(request).settings
    wait = prefer(request.scope, settings.ingress_max_wait_seconds).wait_seconds
    wanted = Resumption(identity.key.encode(), _last_event_id(request), asked.include_usage, asked.fingerprint)
    return await _stream(request, identity, wanted, way, settings.ingress_wait_seconds if wait is None else wait)


def _last_event_id(request: Request) -> EventId:
    text = request.headers.get("last-event-id", "")
    return EventId.parse(text) if text else START


async def _stream(
    request: Request, identity: Identity, wanted: Resumption, way: OnDisconnect, wait_seconds: float
) -> ASGIApp:
    gateway = gateway_of(request)
    headers = key_headers(identity, gateway.settings.idempotency_window_hours)
    if wanted.after.end is End.DONE:
        return Answer(204, headers, b"")  # an EventSource stops at that
    call = gateway.calls.enter(Following(gateway, wanted.key, way))
    try:
        call.follow(request.receive)
        stream = await follow(gateway, call, wanted)
    except Refused as refusal:
        call.close()
        return frame_answer(refusal.frame, headers)
    except BaseException:
        call.close()
        raise
    return EventStream(call, stream, [], headers, _patience(gateway, identity, wait_seconds))


def _patience(gateway: Gateway, identity: Identity, wait_seconds: float) -> Patience:
    key = identity.key.idempotency_key
    error = StillRunning(f"The request goes on: follow it again with GET /v1/requests/{key}/events and Last-Event-ID.")
    return Patience(gateway.settings.ingress_heartbeat_seconds, wait_seconds, error)
