"""A routing policy on the running stack: applied, looked back from, and learned from what callers thought."""

import json
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from millrace.stack_file import StackFile
from tests.support.commands import millrace
from tests.support.until import until

pytestmark = pytest.mark.stack
SHIPPED = files("contracts").joinpath("routes.toml").read_text()
SAMPLE = Path(__file__).parents[1] / "data" / "routing_sample.jsonl"
Ledger = Callable[..., Awaitable[list[tuple[object, ...]]]]


async def test_a_policy_is_applied_replayed_and_learned_from(
    data_dir: Path, stack: StackFile, new_key: Callable[..., Awaitable[str]], ledger: Ledger, tmp_path: Path
) -> None:
    """Only this test's own feature is routed otherwise: others use the same stack."""
    feature, policy = f"f-{uuid4()}", tmp_path / "routes.toml"
    rule = f'[[rules]]\nname = "ours"\nmodel = "large"\nfeatures = ["{feature}"]\n\n[[rules]]\nname = "simple"'
    policy.write_text(SHIPPED.replace('[[rules]]\nname = "simple"', rule))
    headers = {"Authorization": f"Bearer {await new_key('routing')}", "Millrace-Feature": feature}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

        async def model() -> str:
            asked = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
            return (await http.post("/v1/chat/completions", json=asked)).headers["millrace-model"]

        async def is_large() -> bool:
            return await model() == "large"

        async def is_small() -> bool:
            return await model() == "small"

        assert await is_small()
        applied = await millrace(data_dir, "route", "apply", policy, "--uncalibrated")
        try:
            assert applied.status == 0, applied
            assert "ours" in applied.out
            await until(is_large)
        finally:
            assert (await millrace(data_dir, "route", "reset")).status == 0
        await until(is_small)
        key = f"judged-{uuid4()}"
        asked = {"model": "auto", "messages": [{"role": "user", "content": "Where is it?"}], "max_tokens": 5}
        await http.post("/v1/chat/completions", json=asked, headers={"Idempotency-Key": key})
        assert (await http.post(f"/v1/requests/{key}/feedback", json={"score": 0.1})).status_code == 202
    told = await millrace(data_dir, "route", "explain", "--key", key, "--tenant", "routing", "--format", "json")
    explained = json.loads(told.out)
    assert (explained["model"], explained["rule"], explained["scorer"]) == ("small", "simple", "learned")
    assert 0 < explained["score"] <= explained["rules"][0]["max_complexity"]
    assert explained["features"]
    assert explained["costs"]["large"] > explained["costs"]["small"] > 0
    await ledger("SELECT 1 FROM judged WHERE idempotency_key = {key:String} AND score = 0.1", 1, key=key)
    replayed = await millrace(data_dir, "route", "replay", "--policy", policy, "--since", "1h", "--format", "json")
    found = json.loads(replayed.out)
    assert found["rules"]["ours"] >= 3
    assert found["cost_nano"]["best"] >= found["cost_nano"]["now"] > 0
    scorer = tmp_path / "scorer.json"
    learned = await millrace(data_dir, "route", "train", SAMPLE, "-o", scorer, "--from-feedback", "--format", "json")
    assert json.loads(learned.out)["questions"] >= 241
    assert scorer.exists()
