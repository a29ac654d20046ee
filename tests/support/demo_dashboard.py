"""The dashboard over the demonstration ledger: its keys, and a desk that knows limits and a routing policy."""

# ruff: noqa: ARG002 - a protocol's arguments

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx

from analytics.dashboard.desk import Desk, LetterLine, Redriven
from analytics.dashboard.service import dashboard, hear
from contracts.api_keys import ApiKey, hash_api_key
from contracts.catalogue import Catalogue, load_catalogue
from contracts.frames import RequestState
from contracts.keyring import KeyRing
from contracts.keys import RequestKey
from contracts.limit_usage import AccountUsage
from contracts.limits import Limit, Selector, parse_limits
from contracts.settings import Settings

OPERATOR, ACME = "mr_demo-operator", "mr_demo-acme"
BUDGETS = """
[[limit]]
dollars_per_month = "60"

[[limit]]
tenant = "acme"
dollars_per_month = "40"

[[limit]]
tenant = "globex"
dollars_per_month = "35"
dollars_per_day = "2.50"

[[limit]]
tenant = "acme"
feature = "contract-review"
dollars_per_month = "20"
"""


class DemoDesk:
    """A system in which nothing runs, and whose limits are BUDGETS."""

    async def limit_usage(self, tenant: str) -> tuple[list[AccountUsage], bool]:
        return [], True

    async def limits(self) -> Mapping[Selector, Limit]:
        return {limit.selector: limit for limit in parse_limits(BUDGETS, "limits.toml")}

    async def catalogue(self) -> Catalogue:
        return load_catalogue()

    async def request_state(self, key: RequestKey) -> RequestState | None:
        return None

    async def letters(self, *, since: int, tenant: str, handled: bool) -> list[LetterLine]:
        return []

    async def redrive(self, ids: Sequence[str]) -> Redriven:
        return Redriven(0, {})

    async def drop(self, ids: Sequence[str]) -> int:
        return 0


@asynccontextmanager
async def serving_demo(settings: Settings, desk: Desk | None = None, ring: KeyRing | None = None) -> AsyncIterator[str]:
    """Gives its address. The embedded engine's folder must be open in this process already."""
    ring = ring or KeyRing()
    keys = {OPERATOR: ApiKey(id="mk_op", tenant="ops", operator=True, created_at=0)}
    keys |= {ACME: ApiKey(id="mk_acme", tenant="acme", created_at=0)}
    hear(ring, [(hash_api_key(secret), key.model_dump_json().encode()) for secret, key in keys.items()])
    nowhere = {"dashboard_port": 0, "kafka_bootstrap_servers": "127.0.0.1:1"}
    async with dashboard(settings.model_copy(update=nowhere), ring, desk or DemoDesk()) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def signed_in(url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.post("/api/session", json={"key": key})).status_code == 200
        yield client
