"""Where a request stands in its queue: asked of the workers, of whom the one that has it answers."""

import asyncio
from typing import Any

import orjson
from ulid import ULID

from contracts.clock import now_ms
from contracts.control import Control, ControlType
from contracts.errors import KafkaUnavailable
from contracts.topics import Topics
from ingress.calls import Call
from ingress.capacity import UNKNOWN, Expected
from ingress.frame import PLACE, RawFrame
from ingress.gateway import Gateway

_PATIENCE_SECONDS = 0.25  # a worker answers within milliseconds, or hasn't got it yet


async def with_place(gateway: Gateway, call: Call, state: RawFrame) -> bytes:
    """The state of a request that hasn't ended, with its place in the queue as far as that can be told."""
    fields: dict[str, Any] = orjson.loads(state.value)
    return orjson.dumps(fields | (await _place(gateway, call, state))._asdict())


async def _place(gateway: Gateway, call: Call, state: RawFrame) -> Expected:
    claim = state.text("claim")
    if not claim or not gateway.capacity.outlook.live(now_ms()):
        return UNKNOWN
    ce_id = str(ULID())
    call.ids.add(ce_id.encode())
    question = Control(ce_id=ce_id, ce_type=ControlType.LOCATE, reply_to=gateway.reply_to, claim=claim)
    until = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    try:
        await gateway.log.append(call.key, b"", question.to_headers(), Topics.of(gateway.settings).control)
    except KafkaUnavailable:
        return UNKNOWN
    while frames := await call.frames(until):
        for frame in frames:
            if frame.kind == PLACE:
                return Expected(frame.known("queue-position"), frame.known("estimated-start"))
    return UNKNOWN
