"""The query port: the embedded engine as a read-only ClickHouse server, for clickhouse-connect, curl and BI tools.

`/readyz` is served with any engine; with a server, queries go to that server.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from analytics.clickhouse import ClickHouseError
from analytics.health import Health
from analytics.query_engine import Answer, Query, QueryEngine
from analytics.query_request import INTERNAL, TOO_MANY_QUERIES, BadQuery, authenticate, read_query, status_of
from analytics.read_only import Forbidden
from contracts.settings import Settings

_log = structlog.get_logger()
_WAITING_PER_THREAD = 32  # queries that wait for their turn; more are told to come again
_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "Pretty": "text/plain; charset=UTF-8",
    "Vertical": "text/plain; charset=UTF-8",
}


def application(
    settings: Settings, health: Health, engine: QueryEngine | None, more: Sequence[Route] = ()
) -> Starlette:
    """`engine` is None where ClickHouse is a server."""
    routes = [Route("/readyz", _readyz(health)), Route("/ping", _ok), *more]
    if engine:
        routes.append(Route("/", QueryPort(settings, engine).handle, methods=["GET", "POST"]))
    return Starlette(routes=routes)


class QueryPort:
    """The event loop only parses and waits; queries run on threads of their own."""

    def __init__(self, settings: Settings, engine: QueryEngine) -> None:
        secret = settings.clickhouse_password
        self._password = secret.get_secret_value() if secret else None
        self._engine = engine
        self._threads = ThreadPoolExecutor(settings.query_concurrency, "query")
        self._most = settings.query_concurrency * (_WAITING_PER_THREAD + 1)
        self._present = 0

    async def handle(self, request: Request) -> Response:
        try:
            if self._password is not None:
                authenticate(request, self._password)
            query = await read_query(request)
            return _answer(await self._run(query)) if query else await _ok(request)
        except (BadQuery, Forbidden) as error:
            return _refusal(error.code, f"Code: {error.code}. DB::Exception: {str(error).rstrip('. ')}.")
        except ClickHouseError as error:
            return _refusal(getattr(error, "code", None) or INTERNAL, str(error).partition(", Stack trace")[0])

    async def _run(self, query: Query) -> Answer:
        if self._present >= self._most:
            raise BadQuery(TOO_MANY_QUERIES, "Too many simultaneous queries")
        self._present += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.ask, query)
        finally:
            self._present -= 1


def _answer(answer: Answer) -> Response:
    kind = next((value for name, value in _CONTENT_TYPES.items() if answer.format.startswith(name)), None)
    headers = {
        "Content-Type": kind or "application/octet-stream",
        "X-ClickHouse-Format": answer.format,
        "X-ClickHouse-Timezone": "UTC",
    }
    return Response(answer.body, headers=headers)


def _refusal(code: int, message: str) -> Response:
    status = status_of(code)
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    if status == status.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="ClickHouse"'
    return PlainTextResponse(f"{message}\n", status, headers)


async def _ok(request: Request) -> Response:  # noqa: ARG001 - a route
    return PlainTextResponse("Ok.\n")


def _readyz(health: Health) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(request: Request) -> Response:  # noqa: ARG001 - a route
        state = {"status": "ready"} if health.ready else {"status": "not ready", "problem": health.problem}
        sink = {"stored": health.stored, "block": health.block, "lag": health.lag, "behind_ms": health.behind_ms}
        return JSONResponse(state | {"sink": sink}, 200 if health.ready else 503)

    return readyz
