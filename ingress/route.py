"""Routes without the middle man: documented by FastAPI, run on the raw request."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive

from contracts.errors import BodyTooLarge, InvalidRequest, MillraceError
from ingress.answers import error_answer, key_headers
from ingress.gateway import gateway_of
from ingress.identity import identity_of

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class RawRoute(APIRoute):
    """Its endpoint takes the request and returns an ASGI response; errors become OpenAI's error object.

    FastAPI's own handling would parse the body a second time, and costs as much as all the rest of a request here.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        endpoint: Endpoint = self.endpoint

        async def handle(request: Request) -> ASGIApp:
            try:
                return await endpoint(request)
            except MillraceError as error:
                return _explain(request, error)
            except Exception:
                log.exception("unhandled error", key=_key(request), path=request.scope["path"])
                return _explain(request, MillraceError("The server had an error; its log says more."))

        return handle


async def read_body(receive: Receive, declared: bytes, most_bytes: int) -> bytes:
    """`declared` is the Content-Length. Raises BodyTooLarge as soon as that is clear, InvalidRequest when the client
    hangs up within the body."""
    if declared.isdigit() and int(declared) > most_bytes:
        raise _too_large(most_bytes)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The body ended early.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            raise _too_large(most_bytes)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have {most_bytes:,} bytes at the most: shorten the prompt.")


def _explain(request: Request, error: MillraceError) -> ASGIApp:
    identity = identity_of(request.scope)
    window_hours = gateway_of(request).settings.idempotency_window_hours
    return error_answer(error, identity, key_headers(identity, window_hours) if identity else [])


def _key(request: Request) -> str | None:
    identity = identity_of(request.scope)
    return identity and f"{identity.key.tenant}:{identity.key.idempotency_key}"
