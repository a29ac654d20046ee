"""What every route needs, in one place. An ingress process holds no state of requests, only who waits for answers."""

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request
from ulid import ULID

from contracts.catalogue import AUTOMATIC, Catalogue
from contracts.envelope import Digest, OnDisconnect, RequestType
from contracts.errors import KafkaUnavailable, UnknownModel
from contracts.headers import RawHeaders
from contracts.keyring import KeyRing
from contracts.settings import Settings
from contracts.tokenizer import Tokenizers
from contracts.topics import Topics
from ingress.calls import Call, Calls
from ingress.capacity import Capacity
from ingress.departures import Departures, chosen
from ingress.history import History, Silence
from ingress.requestlog import RequestLog
from ingress.spans import CallSpans, TracedLog, trace_headers


@dataclass(slots=True)
class Gateway:
    settings: Settings
    catalogue: Catalogue
    log: RequestLog
    reply_to: str  # this process's reply address
    keyring: KeyRing = field(default_factory=KeyRing)
    calls: Calls = field(default_factory=Calls)
    history: History = field(default_factory=Silence)
    tokenizers: Tokenizers = field(default_factory=dict)
    departures: Departures = field(init=False)
    capacity: Capacity = field(init=False)
    spans: CallSpans | None = field(init=False)  # none while traces are off
    source: str = field(default_factory=lambda: f"/ingress/{os.urandom(4).hex()}")
    draining: asyncio.Event = field(default_factory=asyncio.Event)  # it was told to stop

    def __post_init__(self) -> None:
        self.spans = CallSpans.of(Topics.of(self.settings))
        if self.spans:
            self.log = TracedLog(self.log, self.spans)
        self.capacity = Capacity(self.settings, self.catalogue)
        self.departures = Departures(self.log, self.origin, self.settings.ingress_return_seconds)

    def check_model(self, model: str) -> None:
        """Raises UnknownModel, naming those that there are."""
        if not self.catalogue.knows(model):
            served = ", ".join([*self.catalogue.models, *AUTOMATIC])
            raise UnknownModel(f"The model {model!r} does not exist here; use one of: {served}.", param="model")

    def origin(self, ce_id: str, ce_type: RequestType) -> dict[str, bytes]:
        """Envelope headers that say who writes a record, when, and where its answer goes."""
        return {
            "ce_specversion": b"1.0",
            "ce_id": ce_id.encode(),
            "ce_source": self.source.encode(),
            "ce_type": ce_type.encode(),
            "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds").encode(),
            "reply-to": self.reply_to.encode(),
            **trace_headers(),
        }

    def on_disconnect(self, headers: dict[bytes, bytes], asked: Digest) -> OnDisconnect:
        """What becomes of a request whose last caller hangs up: by the caller's word, else the model's, else the
        settings. Raises InvalidRequest."""
        spec, settings = self.catalogue.models.get(asked.requested_model), self.settings
        usual = settings.ingress_on_disconnect_stream if asked.stream else settings.ingress_on_disconnect
        return chosen(headers) or (spec and spec.on_disconnect) or usual

    def tells_when_gone(self, call: Call, caller: str, way: OnDisconnect) -> dict[str, bytes]:
        """Envelope headers of a caller that waits: if it hangs up, the owner of its key learns that."""
        call.on_hang_up = partial(self.departures.announce, call.key, caller, way)
        return {"caller": caller.encode()}

    async def ask(self, call: Call, value: bytes, headers: RawHeaders) -> None:
        """Write a record on a call's behalf; the answer comes to its frames. Raises KafkaUnavailable."""
        await self.log.append(call.key, value, headers)
        call.record = value, headers

    async def ask_again(self) -> None:
        """Repeat what every waiting call asked, in case frames were lost while Kafka was away: it runs once, anyway."""
        repeats = [self._repeat(call, *call.record) for call in self.calls if call.record is not None]
        results = await asyncio.gather(*repeats, return_exceptions=True)
        for error in filter(None, results):
            if not isinstance(error, KafkaUnavailable):  # else it is done when Kafka is back again
                raise error

    async def _repeat(self, call: Call, value: bytes, headers: RawHeaders) -> None:
        ce_id = str(ULID()).encode()
        call.ids.add(ce_id)
        again = [(name, ce_id if name == "ce_id" else text) for name, text in headers]
        await self.log.append(call.key, value, again)


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway
