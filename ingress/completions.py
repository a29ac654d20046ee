"""`POST /v1/chat/completions` and `/v1/completions`: check, write down, then wait for the answer."""

import asyncio
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp
from ulid import ULID

from contracts.bodies import Described, describe
from contracts.clock import now_ms
from contracts.envelope import Operation, RequestType
from contracts.errors import KafkaUnavailable, StillRunning
from contracts.frames import RequestState
from ingress.answers import Answer, RawHttpHeaders, frame_answer, frame_headers, json_answer, key_headers, location
from ingress.attribution import envelope
from ingress.calls import Call
from ingress.capacity import UNKNOWN, Expected
from ingress.events import resume
from ingress.frame import ERROR, STATE, RawFrame
from ingress.gateway import Gateway, gateway_of
from ingress.identity import Identity, derive, identify
from ingress.preferences import Preferences, prefer
from ingress.route import read_body
from ingress.spans import heard
from ingress.sse import EventStream, Patience
from ingress.stream import AnswerStream

log = structlog.get_logger()

_VERDICT_SECONDS = 1.0  # how long a 202 waits to hear whether the key is free: streams that are away don't hold it up


async def create_chat_completion(request: Request) -> ASGIApp:
    return await _create(request, "chat")


async def create_completion(request: Request) -> ASGIApp:
    return await _create(request, "text_completion")


async def _create(request: Request, operation: Operation) -> ASGIApp:
    started = _now()
    gateway = gateway_of(request)
    headers = dict(request.scope["headers"])
    caller = gateway.keyring.authenticate(headers.get(b"authorization"))
    identity = identify(request.scope, caller.tenant)
    declared_length = headers.get(b"content-length", b"")
    body = await read_body(request.receive, declared_length, gateway.settings.max_body_bytes)
    asked = describe(body, operation, gateway.tokenizers)
    gateway.check_model(asked.request.model)
    identity = derive(request.scope, identity, asked.digest.fingerprint)
    way = gateway.on_disconnect(headers, asked.digest)
    if asked.digest.stream and b"last-event-id" in headers:
        return await resume(request, identity, asked.digest, way)
    ce_id = identity.key.idempotency_key if identity.generated else str(ULID())
    preferences = prefer(request.scope, gateway.settings.ingress_max_wait_seconds)
    call = gateway.calls.open(identity.key.encode(), ce_id)
    try:
        origin = gateway.origin(ce_id, RequestType.REQUEST)
        if not preferences.respond_async:
            origin |= gateway.tells_when_gone(call, ce_id, way)
        record = envelope(caller, asked, headers, origin)
        told = dict(record)
        if identity.generated:  # a caller's own key may have its answer already
            gateway.capacity.check(identity.key, asked.digest, told)
        await gateway.ask(call, body, record)
        accepted = _Accepted.of(request, identity, asked, call, preferences, started)
        accepted.expected = gateway.capacity.expect(identity.key, asked.request.model, told)
        log.debug("accepted", model=asked.request.model, stream=asked.digest.stream)
        return await accepted.respond(request)
    except BaseException:
        call.close()
        raise


@dataclass(slots=True)
class _Accepted:
    """A request that Kafka has, and its caller, who waits."""

    identity: Identity
    asked: Described
    call: Call
    preferences: Preferences
    headers: RawHttpHeaders
    wait_seconds: float
    heartbeat_seconds: float
    started: float  # loop time, seconds
    expected: Expected = UNKNOWN

    @classmethod
    def of(
        cls,
        request: Request,
        identity: Identity,
        asked: Described,
        call: Call,
        preferences: Preferences,
        started: float,
    ) -> "_Accepted":
        settings = gateway_of(request).settings
        headers = key_headers(identity, settings.idempotency_window_hours)
        if applied := preferences.applied():
            headers.append((b"preference-applied", applied.encode()))
        wait = preferences.wait_seconds
        wait_seconds = settings.ingress_wait_seconds if wait is None else wait
        heartbeat_seconds = settings.ingress_heartbeat_seconds
        return cls(identity, asked, call, preferences, headers, wait_seconds, heartbeat_seconds, started)

    async def respond(self, request: Request) -> ASGIApp:
        if self.preferences.respond_async and self.preferences.wait_seconds is None:
            with self.call:
                refusal = None if self.identity.generated else await self._refusal(gateway_of(request))
            return frame_answer(refusal, self.headers) if refusal else self._later()
        self.call.follow(request.receive)
        if self.asked.digest.stream and not self.preferences.respond_async:
            return await self._streamed()
        with self.call:
            return await self._whole()

    async def _refusal(self, gateway: Gateway) -> RawFrame | None:
        """Why the caller's key won't do, should that be so: the answer to a lookup comes after it."""
        until = _now() + _VERDICT_SECONDS
        lookup = str(ULID())
        self.call.ids.add(lookup.encode())
        try:
            await gateway.ask(self.call, b"", list(gateway.origin(lookup, RequestType.LOOKUP).items()))
        except KafkaUnavailable:  # the request itself was acknowledged
            return None
        while frames := await self.call.frames(until):
            for frame in frames:
                if frame.kind == STATE:
                    return None
                if frame.kind == ERROR and "outcome" not in frame.headers:
                    return frame
        return None

    async def _whole(self) -> Answer:
        frame = await self.call.last_frame(self.started + self.wait_seconds)
        if frame is not None:
            heard([frame])
            log.debug("answered", status=frame.status, outcome=frame.text("outcome"))
            return frame_answer(frame, [*self.headers, self._timing()])
        if self.preferences.respond_async:
            return self._later()
        raise self._still_running()

    async def _streamed(self) -> ASGIApp:
        """The first frame decides the HTTP status: an error before any text is a plain error answer. Where it is so
        long in coming that heartbeats must begin, the status is 200, and an error an event."""
        frames = await self._first_frames()
        first = next((frame for frame in frames if not frame.takes_over), None)
        if first and first.kind == ERROR:
            self.call.close()
            return frame_answer(first, self.headers)
        headers = [*self.headers, *(frame_headers(first) if first else []), self._timing()]
        stream = AnswerStream(include_usage=self.asked.digest.include_usage)
        patience = Patience(self.heartbeat_seconds, self.wait_seconds, self._still_running())
        return EventStream(self.call, stream, frames, headers, patience)

    async def _first_frames(self) -> list[RawFrame]:
        """Up to the first that is of the answer: who takes over may hand the request on. None when a heartbeat is due
        before them. Raises StillRunning."""
        seconds = min(self.wait_seconds, self.heartbeat_seconds)
        come: list[RawFrame] = []
        while frames := await self.call.frames(self.started + seconds):
            come += [frame for frame in frames if frame.kind != STATE]
            if any(not frame.takes_over for frame in come):
                break
        if come:
            return come
        if self.call.over or seconds == self.wait_seconds:
            raise self._still_running()
        return []

    def _later(self) -> Answer:
        """202: the request is in the log, and its answer will be."""
        state = RequestState(
            id=self.identity.key.idempotency_key,
            status="in_progress",
            model=self.asked.request.model,
            created_at=now_ms(),
            **self.expected._asdict(),
        )
        return json_answer(state.model_dump_json().encode(), [*self.headers, location(self.identity)], 202)

    def _still_running(self) -> StillRunning:
        key = self.identity.key.idempotency_key
        return StillRunning(
            f"The answer isn't ready and the request goes on: fetch it with GET /v1/requests/{key}, "
            f"or send the same request again with the header `Idempotency-Key: {key}`."
        )

    def _timing(self) -> tuple[bytes, bytes]:
        return b"openai-processing-ms", str(int((_now() - self.started) * 1000)).encode()


def _now() -> float:
    return asyncio.get_running_loop().time()
