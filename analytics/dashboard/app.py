"""The dashboard's HTTP application: pages, sign-in, each view's endpoints, live updates; each call is judged here."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from analytics.clickhouse import ClickHouseError
from analytics.dashboard.answers import FORMATS, as_json, download, page
from analytics.dashboard.headers import SecurityHeaders
from analytics.dashboard.live import Live
from analytics.dashboard.session import COOKIE, NotYours, Session, Sessions
from analytics.dashboard.view import Asked, Endpoint, House, View
from contracts.errors import BodyTooLarge, InvalidRequest, MillraceError, StackError

STATIC = Path(__file__).parent / "static"
_log = structlog.get_logger()
_MOST_BYTES = 65_536  # of a body
_TOKEN = "x-csrf-token"  # noqa: S105 - a header's name
Handler = Callable[[Request], Awaitable[Response]]


def dashboard_app(house: House, sessions: Sessions, live: Live, views: Sequence[View]) -> Starlette:
    door = Door(house, sessions, live, views)
    pages = [Route(f"/{view.id}{rest}", _shell) for view in views for rest in ("", "/{rest:path}")]
    endpoints = [
        Route(f"/api/{view.id}/{endpoint.name}", _told(door.endpoint(view, endpoint)), methods=[endpoint.method])
        for view in views
        for endpoint in view.endpoints
    ]
    routes = [
        Route("/", _home(views)),
        *pages,
        Route("/api/session", _told(door.session), methods=["GET"]),
        Route("/api/session", _told(door.sign_in), methods=["POST"]),
        Route("/api/session", _told(door.sign_out), methods=["DELETE"]),
        Route("/api/live", _told(door.live)),
        *endpoints,
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    https = house.settings.dashboard_https
    return Starlette(routes=routes, middleware=[Middleware(SecurityHeaders, https=https), Middleware(GZipMiddleware)])


class Door:
    """Who comes in, and to what."""

    def __init__(self, house: House, sessions: Sessions, live: Live, views: Sequence[View]) -> None:
        self._house, self._sessions, self._live, self._views = house, sessions, live, views

    async def session(self, request: Request) -> Response:
        return as_json(self._about(self._judge(request)))

    async def sign_in(self, request: Request) -> Response:
        _check_origin(request)
        key = (await _body(request)).get("key")
        session, cookie = self._sessions.open(key if isinstance(key, str) else "")
        _log.info("signed in to the dashboard", api_key=session.key_id, operator=session.operator)
        response = as_json(self._about(session))
        self._set_cookie(response, cookie, self._sessions.seconds)
        return response

    async def sign_out(self, request: Request) -> Response:
        self._judge_write(request)
        response = Response(status_code=204)
        self._set_cookie(response, "", 0)
        return response

    async def live(self, request: Request) -> Response:
        session = self._judge(request)
        return StreamingResponse(
            self._live.stream(session, request.cookies[COOKIE]),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no", "Content-Encoding": "identity"},  # never gathered, nor compressed
        )

    def endpoint(self, view: View, endpoint: Endpoint) -> Handler:
        async def handle(request: Request) -> Response:
            writes = endpoint.method != "GET"
            session = self._judge_write(request) if writes else self._judge(request)
            if view.operators_only and not session.operator:
                raise NotYours("That is for operators: `millrace keys create --operator` makes such a key.")
            asked = Asked.of(self._house, session, request.query_params, await _body(request) if writes else {})
            format_ = asked.choice("format", FORMATS, FORMATS[0])
            answer = await endpoint.work(asked)
            if format_ == FORMATS[0]:
                return page(asked, answer)
            return download(answer, f"{view.id}-{endpoint.name}", format_)

        return handle

    def _judge(self, request: Request) -> Session:
        return self._sessions.judge(request.cookies.get(COOKIE))

    def _judge_write(self, request: Request) -> Session:
        """A write comes from our own page, which alone can know the session's token. Raises NotYours, SignIn."""
        _check_origin(request)
        session = self._judge(request)
        if request.headers.get(_TOKEN) != session.csrf:
            raise NotYours("This was not sent by the dashboard's own page: load it again.")
        return session

    def _about(self, session: Session) -> dict[str, Any]:
        seen = [view for view in self._views if session.operator or not view.operators_only]
        return {
            "tenant": session.tenant,
            "operator": session.operator,
            "key_id": session.key_id,
            "csrf": session.csrf,
            "views": [{"id": view.id, "title": view.title} for view in seen],
        }

    def _set_cookie(self, response: Response, value: str, seconds: int) -> None:
        https = self._house.settings.dashboard_https
        response.set_cookie(COOKIE, value, max_age=seconds, httponly=True, samesite="strict", secure=https)


def _told(handler: Handler) -> Handler:
    """Errors as JSON, in public words."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except StackError as error:
            return _problem(503, error.message, error.code)
        except MillraceError as error:
            return _problem(error.status, error.message, error.code)
        except ClickHouseError as error:
            _log.warning("the dashboard can't read the ledger", path=request.url.path, error=str(error)[:500])
            return _problem(503, "The ledger didn't answer: see the log of analytics.", "ledger_error")

    return handle


def _problem(status: int, message: str, code: str | None) -> Response:
    return as_json({"error": {"message": message, "code": code}}, status)


def _check_origin(request: Request) -> None:
    """Raises NotYours for what another site sends. https://fetch.spec.whatwg.org/#sec-fetch-site"""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    )
    if foreign or not request.headers.get("content-type", "application/json").startswith("application/json"):
        raise NotYours("That came from another site.")


async def _body(request: Request) -> Mapping[str, Any]:
    """Raises InvalidRequest, BodyTooLarge."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise BodyTooLarge(f"A body is at most {_MOST_BYTES} bytes long.")
    try:
        value = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body is a JSON object.")
    return value


async def _shell(request: Request) -> Response:  # noqa: ARG001 - a route
    return FileResponse(STATIC / "index.html")


def _home(views: Sequence[View]) -> Handler:
    async def home(request: Request) -> Response:  # noqa: ARG001 - a route
        return RedirectResponse(f"/{views[0].id}")

    return home
