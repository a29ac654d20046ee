"""The ledger's side of a replay: what ClickHouse has of this run."""

import asyncio
import time

from clickhouse_connect.driver.client import Client

from millrace.replay.report import LedgerRow

ROWS = """
SELECT tenant, feature, count(), sum(prompt_tokens), sum(completion_tokens), sum(cost_nano)
FROM usage
WHERE startsWith(idempotency_key, {run:String}) AND kind = 'usage' AND outcome = 'succeeded'
GROUP BY tenant, feature
"""
POLL_SECONDS = 0.2


async def ledger_rows(client: Client, run: str, expected: int, patience_seconds: float = 30.0) -> list[LedgerRow]:
    """Rows of the run, by tenant and feature, as soon as they make up `expected` requests; what is there after
    `patience_seconds` otherwise."""
    deadline = time.monotonic() + patience_seconds
    while True:
        result = await asyncio.to_thread(client.query, ROWS, parameters={"run": f"{run}-"})
        rows = [LedgerRow(*row) for row in result.result_rows]
        if sum(row.requests for row in rows) >= expected or time.monotonic() > deadline:
            return rows
        await asyncio.sleep(POLL_SECONDS)
