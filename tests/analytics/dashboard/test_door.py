"""Who gets in, to what, and what every answer carries: sign-in, sessions, CSRF, tenants, headers."""

from collections.abc import AsyncIterator

import httpx
import pytest

from analytics.clickhouse import Client
from analytics.dashboard.service import hear
from analytics.dashboard.session import COOKIE
from analytics.dashboard.views import VIEWS
from contracts.api_keys import ApiKey, hash_api_key
from contracts.keyring import KeyRing
from contracts.settings import Settings
from tests.support.busy_desk import BusyDesk
from tests.support.demo_dashboard import ACME, OPERATOR, serving_demo, signed_in
from tests.support.demo_ledger import FEATURES, DemoLedger

Demo = tuple[Client, DemoLedger]
OTHERS = {feature.tenant for feature in FEATURES} - {"acme"}
GETS = [f"{view.id}/{one.name}" for view in VIEWS for one in view.endpoints if one.method == "GET"]
POSTS = [f"{view.id}/{one.name}" for view in VIEWS for one in view.endpoints if one.method == "POST"]
OPERATORS_ONLY = {view.id for view in VIEWS if view.operators_only}


@pytest.fixture(scope="module")
def desk() -> BusyDesk:
    return BusyDesk()


@pytest.fixture(scope="module")
def ring() -> KeyRing:
    return KeyRing()


@pytest.fixture(scope="module")
async def url(demo: Demo, demo_settings: Settings, desk: BusyDesk, ring: KeyRing) -> AsyncIterator[str]:
    async with serving_demo(demo_settings, desk, ring) as url:
        yield url


def csrf(session: httpx.Response) -> dict[str, str]:
    return {"X-CSRF-Token": session.json()["csrf"]}


async def test_a_key_opens_a_session_and_its_cookie_is_kept_from_scripts(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/api/session")).status_code == 401
        refused = await client.post("/api/session", json={"key": "mr_wrong"})
        assert refused.status_code == 401
        assert COOKIE not in client.cookies
        session = await client.post("/api/session", json={"key": OPERATOR})
        assert session.json()["operator"] is True
        cookie = session.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert OPERATOR not in cookie
        assert (await client.get("/api/session")).json()["csrf"] == session.json()["csrf"]


async def test_a_cookie_that_was_made_up_or_changed_is_worth_nothing(url: str) -> None:
    async with signed_in(url, ACME) as client:
        good = client.cookies[COOKIE]
    payload, _, signature = good.partition(".")
    for bad in (
        "",
        "x",
        ".",
        f"{payload}.",
        f"{payload}x.{signature}",
        f".{signature}",
        f"{payload}.{signature[::-1]}",
    ):
        async with httpx.AsyncClient(base_url=url, cookies={COOKIE: bad}) as client:
            assert (await client.get("/api/session")).status_code == 401, bad


async def test_a_revoked_keys_session_ends_at_once(url: str, ring: KeyRing) -> None:
    key = ApiKey(id="mk_short", tenant="acme", created_at=0)
    hear(ring, [(hash_api_key("mr_short"), key.model_dump_json().encode())])
    async with signed_in(url, "mr_short") as client:
        assert (await client.get("/api/requests/tenants")).status_code == 200
        hear(ring, [(hash_api_key("mr_short"), None)])
        assert (await client.get("/api/requests/tenants")).status_code == 401


async def test_one_users_key_opens_nothing(url: str, ring: KeyRing) -> None:
    key = ApiKey(id="mk_ann", tenant="acme", user="ann", created_at=0)
    hear(ring, [(hash_api_key("mr_ann"), key.model_dump_json().encode())])
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/api/session", json={"key": "mr_ann"})).status_code == 403


@pytest.mark.parametrize("path", GETS)
async def test_nothing_is_told_to_who_is_not_signed_in(url: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get(f"/api/{path}")).status_code == 401


@pytest.mark.parametrize("path", GETS)
async def test_a_tenant_sees_nothing_of_others(url: str, path: str) -> None:
    """Whatever they ask for; the period has everybody's rows."""
    period = {"since": "2026-10-28T00:00:00Z", "until": "2026-11-23T10:00:00Z"}
    async with signed_in(url, ACME) as client:
        own = await client.get(f"/api/{path}", params=period | {"limit": "1000"})
        if path.partition("/")[0] in OPERATORS_ONLY:
            assert own.status_code == 403
            return
        assert own.status_code in (200, 400, 404), own.text
        assert not [name for name in OTHERS if name in own.text]
        for wanted in [*OTHERS, "*", "acme' OR '1'='1", "acme,globex", "%"]:
            found = await client.get(f"/api/{path}", params=period | {"tenant": wanted})
            assert found.status_code == 403, found.text
        twice = await client.get(f"/api/{path}?tenant=globex&tenant=acme", params=None)
        assert not [name for name in OTHERS if name in twice.text]


@pytest.mark.parametrize("path", POSTS)
async def test_a_write_needs_the_pages_token_and_an_operator(url: str, desk: BusyDesk, path: str) -> None:
    body = {"ids": ["0.1"]}
    async with signed_in(url, OPERATOR) as client:
        token = csrf(await client.get("/api/session"))
        assert (await client.post(f"/api/{path}", json=body)).status_code == 403
        assert (await client.post(f"/api/{path}", json=body, headers={"X-CSRF-Token": "x"})).status_code == 403
        for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            assert (await client.post(f"/api/{path}", json=body, headers=token | foreign)).status_code == 403
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await client.post(f"/api/{path}", content=b"{}", headers=token | form)).status_code == 403
        assert (await client.get(f"/api/{path}")).status_code == 405
    async with signed_in(url, ACME) as client:
        own = csrf(await client.get("/api/session"))
        assert (await client.post(f"/api/{path}", json=body, headers=own)).status_code == 403
        assert (await client.post(f"/api/{path}", json=body, headers=token)).status_code == 403
    assert desk.redriven == desk.dropped == []


async def test_signing_in_from_another_site_is_refused(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, headers={"Sec-Fetch-Site": "cross-site"}) as client:
        assert (await client.post("/api/session", json={"key": OPERATOR})).status_code == 403


async def test_signing_out_takes_the_cookie(url: str) -> None:
    async with signed_in(url, OPERATOR) as client:
        headers = csrf(await client.get("/api/session"))
        assert (await client.request("DELETE", "/api/session", headers=headers)).status_code == 204
        assert (await client.get("/api/session")).status_code == 401


@pytest.mark.parametrize("path", ["/flow", "/api/session", "/api/requests/list", "/static/js/app.js", "/nowhere"])
async def test_every_answer_carries_the_headers(url: str, path: str) -> None:
    async with signed_in(url, OPERATOR) as client:
        headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert {source for part in policy.split(";") for source in part.split()[1:]} == {"'none'", "'self'", "data:"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


@pytest.mark.parametrize(
    "params",
    [
        {"since": "24x"},
        {"since": "yesterday"},
        {"since": "24h", "until": "now"},
        {"since": "2026-11-23", "until": "2026-11-22"},
        {"limit": "-1"},
        {"limit": "1e9"},
        {"outcome": "' OR 1=1 --"},
        {"user": "x" * 256},
        {"format": "exe"},
    ],
)
async def test_hostile_questions_are_refused(url: str, params: dict[str, str]) -> None:
    async with signed_in(url, OPERATOR) as client:
        found = await client.get("/api/requests/list", params=params)
    assert found.status_code == 400
    assert set(found.json()) == {"error"}


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fapp.py", "/static/"])
async def test_only_the_pages_own_files_are_served(url: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get(path)).status_code == 404
