"""`GET /v1/models`: the catalogue's models, and those that leave the choice to the router: `auto` and its kin."""

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp

from contracts.catalogue import AUTOMATIC
from ingress.answers import json_answer
from ingress.gateway import Gateway, gateway_of


async def list_models(request: Request) -> ASGIApp:
    gateway = _authenticated(request)
    cards = [_card(name) for name in (*gateway.catalogue.models, *AUTOMATIC)]
    return json_answer(orjson.dumps({"object": "list", "data": cards}), [])


async def get_model(request: Request) -> ASGIApp:
    gateway = _authenticated(request)
    name = request.path_params["id"]
    gateway.check_model(name)
    return json_answer(orjson.dumps(_card(name)), [])


def _authenticated(request: Request) -> Gateway:
    gateway = gateway_of(request)
    authorization = request.headers.get("authorization", "")
    gateway.keyring.authenticate(authorization.encode("latin-1"))
    return gateway


def _card(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "millrace"}
