"""JSON Schema (2020-12) of everything that travels."""

from typing import Any

from pydantic import BaseModel

from contracts.api_keys import ApiKey
from contracts.bodies import ChatCompletionRequest, CompletionRequest
from contracts.completion import Completion, Escalation, Shadowed, ShadowWanted
from contracts.control import Control
from contracts.dead_letter import DeadLetter, Handled
from contracts.duplicate import Duplicate
from contracts.engine_time import EngineTime
from contracts.envelope import Admitted, Digest, Envelope, Work
from contracts.feedback import Feedback
from contracts.frames import Frame, RequestState
from contracts.limit_usage import UsageAnswer, UsageQuestion
from contracts.limits import Limit
from contracts.policy_record import PolicyRecord
from contracts.usage import UsageEvent
from contracts.websocket import ClientMessage, ServerMessage
from contracts.workers import Beat

MODELS: dict[str, type[BaseModel]] = {
    "chat-completion-request": ChatCompletionRequest,
    "completion-request": CompletionRequest,
    "request-headers": Envelope,
    "digest-headers": Digest,
    "admitted-headers": Admitted,
    "work-headers": Work,
    "completion-headers": Completion,
    "escalation-headers": Escalation,
    "shadow-wanted-headers": ShadowWanted,
    "shadowed-headers": Shadowed,
    "frame-headers": Frame,
    "request-state": RequestState,
    "usage-event": UsageEvent,
    "control-headers": Control,
    "dead-letter-headers": DeadLetter,
    "dead-letter-handled": Handled,
    "api-key": ApiKey,
    "limit": Limit,
    "limit-usage-question-headers": UsageQuestion,
    "limit-usage": UsageAnswer,
    "websocket-client-message": ClientMessage,
    "websocket-server-message": ServerMessage,
    "policy-record": PolicyRecord,
    "feedback": Feedback,
    "engine-time": EngineTime,
    "duplicate": Duplicate,
    "worker-beat": Beat,
}


def schema_documents() -> dict[str, dict[str, Any]]:
    """Name → schema, by the names that travel (`reply-to`, not `reply_to`)."""
    return {name: model.model_json_schema(by_alias=True) for name, model in MODELS.items()}
