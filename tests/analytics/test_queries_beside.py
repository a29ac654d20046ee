"""Queries of others beside the sink: it has a handle and a thread of its own, and nobody waits for anybody."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.query_engine import Query, QueryEngine
from contracts.settings import Settings
from tests.support.until import until
from tests.support.usage import as_records, as_values, make_events

ENDLESS = "SELECT count() FROM numbers(1000000000000000) WHERE sipHash64(number) = 1"  # weeks, if it were let
OF_THESE = "query LIKE 'SELECT count() FROM numbers(1000000000000000)%'"


async def test_queries_that_run_hold_up_no_block(embedded: Settings, ledger: Ledger) -> None:
    """As many as may run at once."""
    engine = QueryEngine(embedded.model_copy(update={"query_max_seconds": 300}))
    loop = asyncio.get_running_loop()

    async def all_run() -> bool:
        found = await asyncio.to_thread(ledger.client.query, f"SELECT count() FROM system.processes WHERE {OF_THESE}")
        return bool(found.result_rows[0][0] == embedded.query_concurrency)

    with ThreadPoolExecutor(embedded.query_concurrency) as threads:
        asked = [loop.run_in_executor(threads, engine.ask, Query(ENDLESS)) for _ in range(embedded.query_concurrency)]
        try:
            await until(all_run)
            events = make_events(500)
            assert await asyncio.to_thread(take_in, ledger, as_records(as_values(events))) == []
            assert await all_run()
        finally:
            await asyncio.to_thread(ledger.client.command, f"KILL QUERY WHERE {OF_THESE} SYNC")
        for answer in asked:
            with pytest.raises(ClickHouseError, match="cancelled"):
                await answer
    assert ledger.client.query("SELECT count() FROM usage").result_rows == [(500,)]
    engine.close()
