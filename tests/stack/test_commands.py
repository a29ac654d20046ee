"""The commands that a user types against the running stack."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import openai
import pytest

from tests.support.commands import millrace

pytestmark = pytest.mark.stack
SAMPLE = Path(__file__).parents[2] / "millrace/samples/azure_llm_2023_conv_1000.csv"


async def test_replay_reports_and_agrees_with_the_ledger(data_dir: Path) -> None:
    ended = await millrace(data_dir, "replay", SAMPLE, "--speed", 40, "--limit", 120)
    assert ended.status == 0, ended
    assert "The client's own count equals ClickHouse's: 120 requests" in ended.out
    for part in ("Requests", "Latency", "Models", "Cost by tenant and feature", "acme"):
        assert part in ended.out


async def test_a_request_can_be_followed(
    data_dir: Path, sdk: openai.AsyncOpenAI, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    key = f"followed-{uuid4()}"
    messages = [{"role": "user", "content": "hello"}]
    await sdk.chat.completions.create(
        model="auto", messages=messages, max_tokens=5, extra_headers={"Idempotency-Key": key}
    )
    await ledger("SELECT 1 FROM usage WHERE idempotency_key = {key:String}", 1, key=key)
    ended = await millrace(data_dir, "request", key, "--tenant", "acme")
    assert ended.status == 0, ended
    for word in ("accepted", "rule simple", "first token", "in the ledger", "succeeded", "small"):
        assert word in ended.out.lower()


async def test_cost_in_every_format(
    data_dir: Path, sdk: openai.AsyncOpenAI, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    key = f"cost-{uuid4()}"
    headers = {"Idempotency-Key": key, "Millrace-Feature": key}
    await sdk.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "hello"}], max_tokens=5, extra_headers=headers
    )
    await ledger("SELECT 1 FROM usage WHERE feature = {key:String}", 1, key=key)
    for format_ in ("table", "json", "csv"):
        ended = await millrace(data_dir, "cost", "--by", "tenant,feature", "--since", "1h", "--format", format_)
        assert ended.status == 0, ended
        assert key in ended.out or format_ == "table"
    rows = json.loads((await millrace(data_dir, "cost", "--by", "feature", "--format", "json")).out)
    assert [row["requests"] for row in rows if row["feature"] == key] == [1]


async def test_sql_reads_and_never_writes(data_dir: Path) -> None:
    read = await millrace(data_dir, "sql", "SELECT count() AS n FROM usage", "--format", "json")
    assert read.status == 0, read
    assert json.loads(read.out)[0]["n"] >= 0
    written = await millrace(data_dir, "sql", "DROP TABLE usage")
    assert written.status == 1
    assert written.err.count("\n") == 1


async def test_topics_show_partitions_and_lag(data_dir: Path) -> None:
    ended = await millrace(data_dir, "topics")
    assert ended.status == 0, ended
    for name in ("requests", "completions", "work.small.interactive", "millrace-streams", "millrace-analytics"):
        assert name in ended.out


async def test_a_second_stack_on_the_folder_is_refused(data_dir: Path) -> None:
    ended = await millrace(data_dir, "up", "--port", 0)
    assert (ended.status, ended.err.count("\n")) == (1, 1), ended
