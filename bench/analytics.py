"""The ledger's common questions over many rows: `ROWS=100000000 make bench-analytics` (110 bytes of disk a row).

The rows are made inside ClickHouse: 90 days, 200 tenants of very different size, 20,000 users, 12 features, 3 models in
2 versions. Each question is asked of one month of them, ten times. `FOLDER=…` keeps the rows for another run.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analytics.clickhouse import Client, connect
from analytics.latency import LatencyReport
from analytics.latency_series import LatencySeries
from analytics.ledger import Ledger
from analytics.reports import CostReport
from analytics.spending import Spending
from bench.results import publish
from contracts.settings import Settings

ROWS = int(os.environ.get("ROWS", "10_000_000"))
FOLDER = os.environ.get("FOLDER")
ROUNDS = 10
STEP = 4_000_000  # rows in one insert
SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
ODD = datetime(2026, 10, 1, 7, 23, 11, tzinfo=UTC)

# Two hashes of a row's number are all the chance there is: the same rows each time.
_MAKE = """
INSERT INTO usage (
    event_id, event_time, kind, tenant, idempotency_key, claim, user, feature, tags, api_key_id, operation,
    requested_model, model, model_version, engine, worker, run, lane, route, router_version, complexity, outcome,
    status, finish_reason, streamed, prompt_tokens, cached_tokens, completion_tokens, reserved_tokens, accepted_at,
    deduped_at, admitted_at, started_at, first_token_at, finished_at, engine_us, price_version, cost_nano, gpu_nano,
    trace_id, topic, partition, offset
)
WITH
    intHash64(number) AS h,
    intHash64(number + 1000000007) AS g,
    toUInt32(pow((h % 10000) / 10000, 2) * 200) AS t,
    ['small', 'large', 'vision'][1 + g % 3] AS m,
    toDateTime64('2026-08-25 00:00:00', 3, 'UTC')
        + toIntervalMillisecond(intDiv(number * 90 * 86400000, {total:UInt64})) AS at,
    multiIf(h % 97 = 0, 'rejected', h % 53 = 0, 'failed', 'succeeded') AS o,
    if(h % 1999 = 0, 'waste', 'usage') AS k,
    at - toIntervalMillisecond(900 + g % 3000) AS accepted
SELECT
    lower(concat(hex(g), hex(h))), at, k, concat('tenant-', toString(t)), concat('req-', toString(number)),
    concat(toString(number % 8), '.', toString(intDiv(number, 8))),
    concat('user-', toString(t), '-', toString(intDiv(g, 256) % 100)),
    concat('feature-', toString(intDiv(h, 65536) % 12)),
    if(h % 4 = 0, map('team', concat('team-', toString(h % 7)), 'env', 'prod'), map()), concat('mk_', toString(t)),
    'chat', 'auto', m, if(number * 2 > {total:UInt64}, '2.6', '2.5'), 'vllm', concat('w-', toString(g % 8)),
    lower(hex(h)), if(h % 5 = 0, 'batch', 'interactive'), if(m = 'small', 'simple', 'complex'), '2026-11-22.2',
    (h % 1000) / 1000, o, if(o = 'succeeded', 200, 500), 'stop', h % 3 = 0,
    50 + intDiv(g, 1048576) % 4000, intDiv(g, 1048576) % 50, 10 + intDiv(g, 1099511627776) % 800, 5000,
    accepted, accepted + toIntervalMillisecond(4), accepted + toIntervalMillisecond(9),
    accepted + toIntervalMillisecond(20 + g % 50), accepted + toIntervalMillisecond(70 + intDiv(h, 32) % 700), at,
    10000 + g % 1000000, '2026-11-22', if(o = 'succeeded' AND k = 'usage', intDiv(g, 1024) % 5000000, 0),
    intDiv(h, 1024) % 3000000,
    lower(concat(hex(h), hex(g))), 'usage', t % 4, number
FROM numbers({first:UInt64}, {count:UInt64})
"""
_UNFORESEEN = CostReport(("tag:team", "api_key_id", "outcome", "route"), SINCE, UNTIL)


def _limited(question: tuple[str, dict[str, Any]], most: int) -> tuple[str, dict[str, Any]]:
    return f"{question[0]} LIMIT {most}", question[1]


@dataclass(frozen=True, slots=True)
class Case:
    """`reads`: the projection that must answer it; none: the rows, of which it skips most or none."""

    question: str
    goal_ms: int
    statement: str
    parameters: dict[str, Any] = field(default_factory=dict)
    reads: str = ""


CASES = [
    Case("cost by tenant", 50, *CostReport(("tenant",), SINCE, UNTIL).sql(), "hourly"),
    Case("the same, from 07:23:11", 50, *CostReport(("tenant",), ODD, UNTIL).sql(), "hourly"),
    Case("by tenant and month, all 90 days", 300, *CostReport(("tenant", "month")).sql(), "daily"),
    Case(
        "by tenant, feature, model, version, day",
        300,
        *CostReport(("tenant", "feature", "model", "model_version", "day"), SINCE, UNTIL).sql(),
        "daily",
    ),
    Case("top users", 300, *_limited(CostReport(("tenant", "user"), SINCE, UNTIL).sql(), 20), "users"),
    Case(
        "dashboard: spend by feature and day", 300, *Spending("", ("feature",), SINCE, UNTIL).series("day", 7), "daily"
    ),
    Case("dashboard: spend by user and day", 1000, *Spending("", ("user",), SINCE, UNTIL).series("day", 7), "users"),
    Case("dashboard: top users", 300, *Spending("", ("user",), SINCE, UNTIL).groups(50), "users"),
    Case(
        "dashboard: queue by model and hour",
        100,
        *LatencySeries("", "hour", SINCE, UNTIL, "model").quantiles("queue"),
        "latency",
    ),
    Case(
        "dashboard: time between tokens by model, day",
        3000,
        *LatencySeries("", "day", SINCE, UNTIL, "model").quantiles("gap"),
    ),
    Case(
        "dashboard: everybody's latency in one, by model and lane",
        3000,
        *LatencySeries("", "hour", SINCE, UNTIL).whole(),
    ),
    Case(
        "dashboard: the largest tenant's TTFT by hour",
        1000,
        *LatencySeries("tenant-0", "hour", SINCE, UNTIL).quantiles("ttft"),
    ),
    Case(
        "dashboard: the largest tenant's spend by user and day",
        300,
        *Spending("tenant-0", ("user",), SINCE, UNTIL).series("day", 7),
        "users",
    ),
    Case("TTFT p50, p95, p99 by model and hour", 100, *LatencyReport(("model", "hour"), SINCE, UNTIL).sql(), "latency"),
    Case("one request by its key", 30, "SELECT * FROM usage WHERE idempotency_key = {key:String}", {"key": "req-4711"}),
    Case("by a tag, API key, outcome, route", 3000, *_UNFORESEEN.sql()),
    Case("cost of all rows, from the rows", 3000, "SELECT sum(cost_nano * 1) FROM usage"),
]


async def main() -> None:
    """Publishes a row per question."""
    await asyncio.to_thread(_run)


def _run() -> None:
    with _ledger() as client:
        started = time.perf_counter()
        _fill(client)
        built = time.perf_counter() - started
        rows = [_row(client, case) for case in CASES]
        sizes = client.query(_SIZES).result_rows[0]
    title = (
        f"One month of {ROWS:,} rows in {sizes[2]} parts, made in {built:,.0f} s, {sizes[0]} of disk, {sizes[1]} of it "
        f"projections; load of the machine {os.getloadavg()[0]:.0f}"
    )
    publish("analytics", title, rows)


_SIZES = """
SELECT
    formatReadableSize(sum(bytes_on_disk)),
    (SELECT formatReadableSize(sum(bytes_on_disk)) FROM system.projection_parts WHERE active AND table = 'usage'),
    count()
FROM system.parts WHERE active AND table = 'usage'
"""


@contextmanager
def _ledger() -> Iterator[Client]:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as temporary:
        settings = Settings(clickhouse_path=Path(FOLDER or temporary))
        Ledger.open(settings).close()
        with connect(settings) as client:
            client.database = settings.clickhouse_database
            yield client


# Parts of two million rows, as large as a busy sink's become within a minute of merges. They aren't merged any further:
# that takes longer than making them, and what is asked is read from more parts than later on.
_BOTH_CORES = {
    "max_threads": 2,
    "max_insert_threads": 2,
    "max_block_size": 500_000,
    "min_insert_block_size_rows": 2_000_000,
    "min_insert_block_size_bytes": 0,
}


def _fill(client: Client) -> None:
    client.command("SYSTEM STOP MERGES usage")
    client.command("ALTER TABLE usage MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0")
    there = client.query("SELECT count() FROM usage").result_rows[0][0]
    for first in range(there, ROWS, STEP):
        count = min(STEP, ROWS - first)
        client.command(_MAKE, {"first": first, "count": count, "total": ROWS}, settings=_BOTH_CORES)


def _row(client: Client, case: Case) -> dict[str, Any]:
    plan = client.query(f"EXPLAIN {case.statement}", parameters=case.parameters).result_rows
    reads = [line.partition("ReadFromMergeTree (")[2].rstrip(")") for (line,) in plan if "ReadFromMergeTree" in line]
    assert (case.reads in reads) or not case.reads, f"{case.question} reads {reads}"
    found = client.query(f"SELECT count() FROM ({case.statement})", parameters=case.parameters).result_rows[0][0]
    times, cpu = _times(lambda: client.raw_query(case.statement, parameters=case.parameters, fmt="Native"))
    return {
        "question": case.question,
        "answered from": case.reads or "rows",
        "groups": found,
        "goal ms": case.goal_ms,
        "median ms": statistics.median(times),
        "best ms": min(times),
        "cpu ms": statistics.median(cpu),
        "held": "yes" if statistics.median(times) <= case.goal_ms else "NO",
    }


def _times(ask: Callable[[], object]) -> tuple[list[float], list[float]]:
    """By the clock, and of all this process's threads, which tells something on a busy machine, too. Milliseconds."""
    ask()
    times, cpu = [], []
    for _ in range(ROUNDS):
        started, used = time.perf_counter(), time.process_time()
        ask()
        times.append(1000 * (time.perf_counter() - started))
        cpu.append(1000 * (time.process_time() - used))
    return times, cpu


if __name__ == "__main__":
    asyncio.run(main())
