"""`POST /v1/requests/{key}/feedback`: what the caller thought of an answer, written down for whoever learns from it.

Nothing is looked up: feedback may come long after the key's window has passed. What belongs to no request is left out
where both are joined.
"""

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp
from ulid import ULID

from contracts.envelope import RequestType
from contracts.feedback import Feedback
from contracts.topics import Topics
from ingress.answers import json_answer, key_headers
from ingress.gateway import gateway_of
from ingress.identity import identify_by_path
from ingress.route import read_body

_MOST_BYTES = 4096


async def give_feedback(request: Request) -> ASGIApp:
    gateway = gateway_of(request)
    identity = identify_by_path(request, gateway.keyring)
    length = dict(request.scope["headers"]).get(b"content-length", b"")
    feedback = Feedback.decode(await read_body(request.receive, length, _MOST_BYTES))
    origin = gateway.origin(str(ULID()), RequestType.REQUEST)
    headers = [(header, origin[header]) for header in ("ce_id", "ce_source", "ce_time")]
    topic = Topics.of(gateway.settings).feedback
    await gateway.log.append(identity.key.encode(), feedback.model_dump_json().encode(), headers, topic)
    body = {"object": "feedback", "request": identity.key.idempotency_key, **feedback.model_dump()}
    return json_answer(orjson.dumps(body), key_headers(identity, gateway.settings.idempotency_window_hours), 202)
