"""Other prices and credits on the running stack are rows of their own, and reconcile and rebuild know them."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from millrace.stack_file import StackFile
from tests.support.commands import millrace

pytestmark = pytest.mark.stack
TENANT = "corrected"
PRICES = """
version = "dearer"
[[prices]]
model = "small"
since = 2025-01-01
input = "15000"
cached_input = "0"
output = "60000"
request = "0.5"
"""


@pytest.fixture
async def key(
    stack: StackFile,
    new_key: Callable[..., Awaitable[str]],
    ledger: Callable[..., Awaitable[list[tuple[object, ...]]]],
) -> str:
    """Of a request that the tenant has made."""
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=await new_key(TENANT), max_retries=0) as sdk:
        await sdk.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=5,
            extra_headers={"Idempotency-Key": "dear", "Millrace-Feature": "search"},
        )
    await ledger("SELECT 1 FROM usage WHERE tenant = {tenant:String}", 1, tenant=TENANT)
    return "dear"


async def cost(data_dir: Path) -> dict[str, Any]:
    ended = await millrace(data_dir, "cost", "--by", "feature", "--only", f"tenant={TENANT}", "--format", "json")
    assert ended.status == 0, ended
    (line,) = json.loads(ended.out)
    found: dict[str, Any] = line
    return found


async def test_a_reprice_and_credits_and_all_adds_up(data_dir: Path, key: str, tmp_path: Path) -> None:
    before = await cost(data_dir)
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    shown = await millrace(data_dir, "reprice", "--prices", prices, "--since", "1h", "--format", "json")
    assert shown.status == 0, shown
    (difference,) = [line for line in json.loads(shown.out) if line["tenant"] == TENANT]
    dearer = before["prompt_tokens"] * 15_000_000 + before["completion_tokens"] * 60_000_000 + 500_000_000
    assert (difference["cost_nano"], difference["new_nano"]) == (before["cost_nano"], dearer)
    assert await cost(data_dir) == before

    committed = await millrace(data_dir, "reprice", "--prices", prices, "--since", "1h", "--commit")
    assert committed.status == 0, committed
    assert "adjustments are in the ledger" in committed.err
    again = await millrace(data_dir, "reprice", "--prices", prices, "--since", "1h", "--commit")
    assert "Nothing to adjust" in again.err, again
    given = await millrace(data_dir, "credit", "2.5", "--tenant", TENANT, "--reason", "a bad day", "--key", key)
    assert given.out.startswith("corrected is credited $2.50: event "), given
    after = await cost(data_dir)
    assert after["cost_nano"] == dearer - 2_500_000_000
    assert (after["adjusted_nano"], after["credited_nano"]) == (dearer - before["cost_nano"], -2_500_000_000)
    assert {name: after[name] for name in ("requests", "prompt_tokens")} == {
        "requests": 1,
        "prompt_tokens": before["prompt_tokens"],
    }

    told = await millrace(data_dir, "request", key, "--tenant", TENANT)
    assert "-$2.500000000" in told.out, told
    assert "a bad day" in told.out
    assert ", price version dearer, " in told.out

    reconciled = await millrace(data_dir, "reconcile", "--until", "0s", "--format", "json")
    assert reconciled.status == 0, reconciled
    rebuilt = await millrace(data_dir, "rebuild")
    assert rebuilt.status == 0, rebuilt
    unknown = await millrace(data_dir, "credit", "1", "--tenant", TENANT, "--reason", "?", "--key", "nope")
    assert (unknown.status, unknown.err) == (1, "millrace: The ledger has no request nope of tenant corrected.\n")
