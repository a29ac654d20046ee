"""Who may give analytics orders: those with the password; without one, those on the machine."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from analytics.ledger import Ledger
from analytics.maintenance import Maintenance
from contracts.settings import Settings

ORDER = {"missing": {"0": [[5, 1]]}}  # makes no sense: a caller who may gives it gets 400
Caller = Callable[..., httpx.AsyncClient]


@pytest.fixture
def caller(embedded: Settings, ledger: Ledger) -> Iterator[Caller]:
    with ThreadPoolExecutor(1) as executor:

        def make(password: str | None, address: str, **headers: str) -> httpx.AsyncClient:
            settings = embedded.model_copy(update={"clickhouse_password": SecretStr(password) if password else None})
            app = Starlette(routes=Maintenance(settings, ledger, executor).routes())
            transport = httpx.ASGITransport(app, client=(address, 1))
            return httpx.AsyncClient(transport=transport, base_url="http://analytics", headers=headers)

        yield make


@pytest.mark.parametrize(
    ("password", "address", "headers", "status"),
    [
        (None, "127.0.0.1", {}, 400),
        (None, "::1", {}, 400),
        (None, "10.0.0.9", {}, 403),
        ("secret", "10.0.0.9", {"X-ClickHouse-Key": "secret"}, 400),
        ("secret", "127.0.0.1", {"X-ClickHouse-Key": "guess"}, 403),
        ("secret", "127.0.0.1", {}, 401),
    ],
)
@pytest.mark.parametrize("order", ["repair", "swap"])
async def test_who_may(
    caller: Caller, order: str, password: str | None, address: str, headers: dict[str, str], status: int
) -> None:
    async with caller(password, address, **headers) as http:
        answer = await http.post(f"/maintenance/{order}", json=ORDER)
    assert answer.status_code == status, answer.text


async def test_no_web_page_may(caller: Caller) -> None:
    """A form needs no permission from the browser; JSON does."""
    async with caller(None, "127.0.0.1") as http:
        answer = await http.post("/maintenance/swap", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400
    assert "application/json" in answer.text
