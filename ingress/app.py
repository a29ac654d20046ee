"""The HTTP application."""

from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from contracts.errors import error_body
from ingress import documentation
from ingress.answers import json_answer
from ingress.cancel import cancel_request
from ingress.completions import create_chat_completion, create_completion
from ingress.events import get_events
from ingress.feedback import give_feedback
from ingress.gateway import Gateway
from ingress.health import healthz, readyz
from ingress.models import get_model, list_models
from ingress.requests import get_request
from ingress.route import RawRoute
from ingress.websocket import websocket

_ROUTES: list[tuple[str, str, Any, dict[str, Any]]] = [
    # in the order of their traffic: routing tries one after the other
    ("POST", "/v1/chat/completions", create_chat_completion, documentation.CHAT),
    ("POST", "/v1/completions", create_completion, documentation.COMPLETION),
    ("GET", "/v1/requests/{key:path}/events", get_events, documentation.EVENTS),
    ("GET", "/v1/requests/{key:path}", get_request, documentation.REQUEST),
    ("DELETE", "/v1/requests/{key:path}", cancel_request, documentation.CANCEL),
    ("POST", "/v1/requests/{key:path}/feedback", give_feedback, documentation.FEEDBACK),
    ("GET", "/v1/models", list_models, documentation.MODELS),
    ("GET", "/v1/models/{id:path}", get_model, documentation.MODEL),
    ("GET", "/healthz", healthz, documentation.HEALTH),
    ("GET", "/readyz", readyz, documentation.READY),
]


def build_app(gateway: Gateway | None) -> FastAPI:
    """Without a gateway it can only be documented."""
    app = FastAPI(
        title="Millrace",
        version=version("millrace"),
        description=documentation.DESCRIPTION,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asked on each request whether there is any
        redoc_url=None,
        exception_handlers=cast("Any", {HTTPException: _refuse}),  # any ASGI app will do for a response
    )
    app.state.gateway = gateway
    for method, path, endpoint, described in reversed(_ROUTES):
        route = RawRoute(path, endpoint, methods=[method], response_model=None, **described)
        app.router.routes.insert(0, route)
    app.router.add_websocket_route("/v1/ws", websocket)
    return app


def openapi_document() -> dict[str, Any]:
    """The HTTP side's OpenAPI 3.1 document."""
    return build_app(None).openapi()


async def _refuse(request: Request, error: Exception) -> ASGIApp:
    """What routing itself refuses: no such route, no such method."""
    assert isinstance(error, HTTPException)
    method, path = request.scope["method"], request.scope["path"]
    allowed = (error.headers or {}).get("Allow", "")
    if error.status_code == 405:
        message, code = f"{path} doesn't take {method}, but {allowed}.", "method_not_allowed"
    else:
        message, code = f"There is no {method} {path} here; /docs shows what there is.", "not_found"
    headers = [(b"allow", allowed.encode())] if allowed else []
    return json_answer(error_body(message, "invalid_request_error", code), headers, error.status_code)
