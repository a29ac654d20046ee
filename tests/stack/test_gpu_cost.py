"""What requests cost on GPUs of our own, on the running stack: the parts are the GPU-hours by their rate."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import openai
import orjson
from clickhouse_connect.driver.client import Client as ClickHouse

from analytics.margin import Margin, MarginReport, Part
from tests.support.commands import millrace
from tests.support.until import until

_EDGES_US = 200_000  # a busy machine may stop a worker between its two clocks, at either end
# Workers that live, and how far they have told; with what runs in them at that moment.
_NOW = """
SELECT count(), min(told), max(under_way)
FROM (
    SELECT max(until) AS told, argMax(under_way_us, sequence) AS under_way, max(last) AS left
    FROM engine_time GROUP BY worker, model
)
WHERE NOT left AND told > now64(3) - INTERVAL 5 SECOND
"""
_STRETCHES = """
SELECT
    worker, model, since, until, wall_us, idle_us, shared_us, under_way_us, idle_nano, shared_nano,
    gpus * gpu_hour_nano
FROM engine_time FINAL
ORDER BY worker, model, sequence
"""


async def test_an_hours_parts_are_its_gpu_hours_by_the_rate(
    sdk: openai.AsyncOpenAI, clickhouse: ClickHouse, data_dir: Path
) -> None:
    since = await _at_rest(clickhouse, datetime.now(UTC) - timedelta(seconds=2))
    await asyncio.gather(*(_ask(sdk, number) for number in range(24)))
    margin = Margin([], [])
    end = since

    async def told() -> bool:
        """Both ways of counting have come to rest, and agree."""
        nonlocal margin, end
        end = await _at_rest(clickhouse, datetime.now(UTC) - timedelta(seconds=2))
        margin = await asyncio.to_thread(MarginReport(since, end).run, clickhouse)
        requests = sum(line.requests for line in margin.lines)
        return requests >= 24 and not any(line.part in (Part.UNTOLD, Part.UNDER_WAY) for line in margin.lines)

    await until(told)
    whole = sum(gpu.gpu_nano for gpu in margin.gpus)
    assert abs(sum(line.gpu_nano for line in margin.lines) - whole) <= whole / 1000
    charged = [line for line in margin.lines if line.part is Part.REQUESTS and line.gpu_nano]
    assert {line.model for line in charged} == {"small", "large"}
    assert all(line.margin_nano == line.billed_nano - line.gpu_nano for line in charged)
    assert any(line.part is Part.IDLE for line in margin.lines)
    await _check_by_the_clock(clickhouse)
    said = await millrace(data_dir, "margin", "--format", "json")
    assert said.status == 0, said
    assert {row["part"] for row in orjson.loads(said.out)} >= {"requests", "idle"}


async def _ask(sdk: openai.AsyncOpenAI, number: int) -> None:
    await sdk.chat.completions.create(
        model="large" if number % 3 else "small",
        messages=[{"role": "user", "content": f"What does number {number} cost?"}],
        max_tokens=5 + number,
    )


async def _at_rest(clickhouse: ClickHouse, since: datetime) -> datetime:
    """A moment up to which every worker has told, with nothing under way in any, not before `since`."""
    found = since

    async def rests() -> bool:
        nonlocal found
        [(workers, told, under_way)] = (await asyncio.to_thread(clickhouse.query, _NOW)).result_rows
        found = told.replace(tzinfo=UTC)
        return bool(workers and found > since and not under_way)

    await until(rests)
    return found


async def _check_by_the_clock(clickhouse: ClickHouse) -> None:
    """Each engine's stretches follow each other, last as long as the clock says, and are priced to the nano-dollar."""
    engines: dict[tuple[str, str], list[tuple[datetime, datetime, int]]] = {}
    rates, priced, wall, left = {}, {}, {}, {}
    for worker, model, since, until_, wall_us, idle, shared, under_way, idle_nano, shared_nano, rate in (
        await asyncio.to_thread(clickhouse.query, _STRETCHES)
    ).result_rows:
        engine = worker, model
        engines.setdefault(engine, []).append((since, until_, wall_us))
        assert wall_us == idle + shared + under_way - left.get(engine, 0)
        priced[engine] = priced.get(engine, 0) + idle_nano + shared_nano
        wall[engine] = wall.get(engine, 0) + wall_us
        rates[engine], left[engine] = rate, under_way
    for engine, stretches in engines.items():
        assert all(one[1] == other[0] for one, other in pairwise(stretches))
        by_clock_us = (stretches[-1][1] - stretches[0][0]) / timedelta(microseconds=1)
        assert abs(wall[engine] - by_clock_us) <= by_clock_us / 1000 + _EDGES_US
        assert priced[engine] == (wall[engine] - left[engine]) * rates[engine] // 3_600_000_000
