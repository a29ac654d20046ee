"""The maintenance port: what only the process that holds the embedded engine can do to its ledger.

It inserts what Kafka holds and the ledger misses, and nothing that a caller could make up; even so, it is for those
with the password, or on this machine.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import asdict

import structlog
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from analytics.clickhouse import ClickHouseError
from analytics.forget import forget
from analytics.ledger import Ledger
from analytics.query_request import BadQuery, authenticate, status_of
from analytics.rebuild import rebuild, swap
from analytics.reconcile.usage_log import Offsets, apart
from analytics.repair import MOST_OFFSETS, repair
from contracts.errors import MillraceError
from contracts.settings import Settings

_log = structlog.get_logger()
Work = Callable[[bytes], Awaitable[Response]]


class RepairOrder(BaseModel):
    """Offsets of `usage` by partition, each as [first, last]."""

    missing: dict[int, list[tuple[int, int]]] = Field(max_length=65_536)

    def spans(self) -> dict[int, list[Offsets]]:
        """Raises ValueError when they are out of order, or too many."""
        found = {number: [Offsets(first, last) for first, last in spans] for number, spans in self.missing.items()}
        whole = [span for spans in found.values() for span in spans]
        if any(not 0 <= first <= last for first, last in whole) or not all(map(apart, found.values())):
            raise ValueError("Offsets come in order, and apart.")
        if sum(last - first + 1 for first, last in whole) > MOST_OFFSETS:
            raise ValueError(f"At most {MOST_OFFSETS} offsets are repaired at once.")
        return found


class ForgetOrder(BaseModel):
    """Whose data is to be removed."""

    tenant: str
    user: str = Field(min_length=1)


class SwapOrder(BaseModel):
    """As the rebuild told them."""

    ends: dict[int, int]


class Maintenance:
    """`executor` is the one thread that writes to the ledger, so that work here and the sink's never meet."""

    def __init__(self, settings: Settings, ledger: Ledger, executor: Executor) -> None:
        self._settings, self._ledger, self._executor = settings, ledger, executor
        secret = settings.clickhouse_password
        self._password = secret.get_secret_value() if secret else None
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> list[Route]:
        works = {"repair": self._repair, "rebuild": self._rebuild, "swap": self._swap, "forget": self._forget}
        return [Route(f"/maintenance/{name}", self._guarded(work), methods=["POST"]) for name, work in works.items()]

    async def _repair(self, body: bytes) -> Response:
        missing = RepairOrder.model_validate_json(body).spans()
        repaired = await repair(self._settings, self._ledger, self._executor, missing)
        _log.info("repaired", events=repaired.read, refused=len(repaired.refused))
        return JSONResponse(repaired._asdict())

    async def _rebuild(self, body: bytes) -> Response:  # noqa: ARG002 - nothing to say
        rebuilt = await rebuild(self._settings)
        _log.info("rebuilt", events=rebuilt.read, kept=rebuilt.kept, unequal=len(rebuilt.unequal))
        return JSONResponse(asdict(rebuilt))

    async def _swap(self, body: bytes) -> Response:
        ends = SwapOrder.model_validate_json(body).ends
        loop = asyncio.get_running_loop()
        newer = await loop.run_in_executor(self._executor, swap, self._ledger.client, self._settings, ends)
        _log.info("tables swapped", newer=newer)
        return JSONResponse({"newer": newer})

    async def _forget(self, body: bytes) -> Response:
        order = ForgetOrder.model_validate_json(body)
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._executor, forget, self._ledger.client, order.tenant, order.user)
        _log.info("a person forgotten", tenant=order.tenant, rows=rows)
        return JSONResponse({"rows": rows})

    def _guarded(self, work: Work) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                self._admit(request)
                async with self._one_at_a_time:
                    return await work(await request.body())
            except BadQuery as error:
                return PlainTextResponse(f"{error}\n", status_of(error.code))
            except (ValidationError, ValueError) as error:
                return PlainTextResponse(f"{error}\n", 400)
            except (ClickHouseError, MillraceError) as error:
                return PlainTextResponse(str(error).partition(", Stack trace")[0] + "\n", 503)

        return handle

    def _admit(self, request: Request) -> None:
        """By the password where there is one, else from this machine only; never from a web page. Raises BadQuery."""
        if request.headers.get("content-type") != "application/json":
            raise BadQuery(_BAD_ARGUMENTS, "Send application/json")
        if self._password is not None:
            authenticate(request, self._password)
        elif not (request.client and ipaddress.ip_address(request.client.host).is_loopback):
            raise BadQuery(_REFUSED, "Without MILLRACE_CLICKHOUSE_PASSWORD this is for callers on this machine only")


_BAD_ARGUMENTS, _REFUSED = 36, 516  # ClickHouse's codes: 400 and 403
