"""`/healthz`: the process lives. `/readyz`: it can take requests."""

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp

from ingress.answers import json_answer
from ingress.gateway import gateway_of


async def healthz(_: Request) -> ASGIApp:
    return json_answer(b'{"status":"ok"}', [])


async def readyz(request: Request) -> ASGIApp:
    gateway = gateway_of(request)
    if gateway.draining.is_set():
        return json_answer(orjson.dumps({"status": "stopping"}), [], 503)
    if not gateway.log.reachable:
        return json_answer(orjson.dumps({"status": "kafka unreachable"}), [], 503)
    return json_answer(b'{"status":"ready"}', [])
