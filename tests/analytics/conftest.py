"""The embedded engine in the tests' own process (one per process): each test has a database of its own in it."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from analytics.clickhouse import Client
from analytics.health import Health
from analytics.ledger import Ledger
from analytics.query_engine import QueryEngine
from analytics.query_port import application
from contracts.http_server import bind, serving
from contracts.settings import Settings
from tests.support.demo_dashboard import serving_demo
from tests.support.demo_ledger import DemoLedger, fill


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(clickhouse_path=tmp_path_factory.mktemp("clickhouse"), clickhouse_database="default")
    with_engine = QueryEngine(settings)  # keeps the engine open between tests
    yield settings
    with_engine.close()


@pytest.fixture
def embedded(engine_folder: Settings) -> Settings:
    limits = {"query_max_seconds": 2, "query_max_memory_mb": 256, "query_max_result_mb": 8}
    return engine_folder.model_copy(update={"clickhouse_database": f"test_{uuid4().hex[:8]}", **limits})


@pytest.fixture
def ledger(embedded: Settings) -> Iterator[Ledger]:
    ledger = Ledger.open(embedded)
    yield ledger
    ledger.close()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def query_port(embedded: Settings, ledger: Ledger, health: Health) -> AsyncIterator[int]:
    engine = QueryEngine(embedded)
    async with serving(application(embedded, health, engine), bind("127.0.0.1", 0, "ANALYTICS")) as server:
        yield server.port
    engine.close()


@pytest.fixture(scope="session")
def demo_settings(engine_folder: Settings) -> Settings:
    return engine_folder.model_copy(update={"clickhouse_database": "demo"})


@pytest.fixture(scope="session")
def demo(demo_settings: Settings) -> Iterator[tuple[Client, DemoLedger]]:
    """A month of a small company, to be read only."""
    ledger = Ledger.open(demo_settings)
    yield ledger.client, fill(ledger, NOW)
    ledger.client.command("DROP DATABASE demo SYNC")
    ledger.close()


NOW = datetime(2026, 11, 23, 10, 20, tzinfo=UTC)


@pytest.fixture(scope="session")
async def demo_dashboard(demo: tuple[Client, DemoLedger], demo_settings: Settings) -> AsyncIterator[str]:
    """The running dashboard over it: its address. Keys: see tests/support/demo_dashboard.py."""
    async with serving_demo(demo_settings) as url:
        yield url
