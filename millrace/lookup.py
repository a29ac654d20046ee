"""How an unfinished request stands: asked of the streams, as ingress asks it, by a record on `requests`."""

from aiokafka import ConsumerRecord
from ulid import ULID

from contracts.envelope import Envelope, RequestType
from contracts.frames import FrameKind, RequestState
from contracts.kafka import header
from contracts.keys import RequestKey
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.hotline import hotline

_PATIENCE_SECONDS = 5.0


async def look_up(settings: Settings, key: RequestKey) -> RequestState | None:
    """None when the streams know no such request. Raises StackError when they, or Kafka, don't answer."""
    silence = "The streams didn't say how it stands: is the stack running?"
    async with hotline(settings, patience_seconds=_PATIENCE_SECONDS, silence=silence) as line:
        question = Envelope(
            ce_id=str(ULID()),
            ce_source="/cli",
            ce_type=RequestType.LOOKUP,
            tenant=key.tenant,
            reply_to=line.reply_to,
        )
        await line.ask(Topics.of(settings).requests, question.to_headers(), key=key.encode())
        [answer] = await line.answers({question.ce_id})
    return _state(answer)


def _state(record: ConsumerRecord) -> RequestState | None:
    """An error frame means that there is no such request."""
    known = header(record.headers, "kind") == FrameKind.STATE.encode()
    return RequestState.model_validate_json(record.value) if known else None
