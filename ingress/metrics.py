"""What an ingress tells Prometheus: each answer as it ends, by route and status, and who is waiting at a scrape."""

import time
from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.instruments import before_scrape, counters, gauges, histograms
from contracts.metrics import (
    CALLERS,
    HTTP_DURATION,
    HTTP_IN_FLIGHT,
    HTTP_REQUESTS,
    KAFKA_UP,
    OPEN_STREAMS,
    WEBSOCKETS,
)
from ingress.gateway import Gateway

_EXPECTED = ("200", "400", "401", "404", "503")
_INFERENCE = (*_EXPECTED, "202", "410", "413", "422", "429", "500", "502", "504", "529")
_NO_ROUTE = "other"

_requests, _durations = counters(HTTP_REQUESTS), histograms(HTTP_DURATION)
_in_flight = gauges(HTTP_IN_FLIGHT)[()]
sse_streams = gauges(OPEN_STREAMS)["sse"]
websocket_streams = gauges(OPEN_STREAMS)["websocket"]
websockets = gauges(WEBSOCKETS)[()]


class Measured:
    """An application whose answers are counted."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], gateway: Gateway) -> None:
        self._app = app
        for route in routes:
            if isinstance(route, APIRoute):
                _preset(route)
        before_scrape("ingress", lambda: _tell(gateway))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        _in_flight.inc()
        try:
            await self._app(scope, receive, answer)
        finally:
            _in_flight.dec()
            answer.count(scope)


class _Answer:
    """On its way to a client."""

    __slots__ = ("_send", "_started", "_status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = time.perf_counter()
        self._status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)

    def count(self, scope: Scope) -> None:
        """Nothing for a client that left before it was answered."""
        if not self._status:
            return
        route = getattr(scope.get("route"), "path_format", _NO_ROUTE)
        method = scope["method"] if route != _NO_ROUTE else ""
        _requests[method, route, str(self._status)].inc()
        _durations[method, route].observe(time.perf_counter() - self._started)


def _preset(route: APIRoute) -> None:
    statuses = _INFERENCE if route.path_format.endswith("completions") else _EXPECTED
    for method in route.methods or ():
        _requests.preset([method], [route.path_format], statuses)
        _durations.preset([method], [route.path_format])


def _tell(gateway: Gateway) -> None:
    gauges(CALLERS)[()].set(sum(1 for _ in gateway.calls))
    gauges(KAFKA_UP)[()].set(gateway.log.reachable)
