"""Shadow runs on the running stack: one answer, one bill, and a row beside it that says how another model compares."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from millrace.stack_file import StackFile
from tests.stack.policies import applied
from tests.support.commands import millrace
from tests.support.until import until

pytestmark = pytest.mark.stack
SAMPLE = Path(__file__).parents[1] / "data" / "routing_sample.jsonl"
RULE = 'model = "small"\nshadow = { model = "large", share = 1 }'
COMPARED = "SELECT idempotency_key FROM usage WHERE feature = {feature:String} AND kind = 'shadow' AND agreement != ''"
ROWS = """
SELECT kind, model, outcome, shadow_of, agreement, answer_kind, cost_nano > 0, unbilled_nano > 0, completion_tokens
FROM usage WHERE idempotency_key = {key:String} ORDER BY kind DESC
"""
Ledger = Callable[..., Awaitable[list[tuple[object, ...]]]]


async def test_another_model_runs_along_unseen_and_unbilled(
    data_dir: Path, stack: StackFile, new_key: Callable[..., Awaitable[str]], ledger: Ledger, tmp_path: Path
) -> None:
    feature = f"f-{uuid4()}"
    headers = {"Authorization": f"Bearer {await new_key('shadowed')}", "Millrace-Feature": feature}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

        async def ask(key: str) -> httpx.Response:
            body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
            return await http.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": key})

        async def compared() -> bool:
            """Where the other model has something else to do, it is left out: so one more is asked for."""
            answer = await ask(f"beside-{uuid4()}")
            assert (answer.status_code, answer.headers["millrace-model"]) == (200, "small"), answer.text
            return bool(await ledger(COMPARED, 0, feature=feature))

        async with applied(data_dir, tmp_path, RULE, feature):
            await until(compared)
            ((key,), *_) = await ledger(COMPARED, 1, feature=feature)
            again = await ask(str(key))
            assert (again.headers["idempotent-replayed"], again.headers["millrace-model"]) == ("true", "small")
    bill, beside = await ledger(ROWS, 2, key=key)
    assert bill == ("usage", "small", "succeeded", "", "", "text", True, False, 12)
    assert beside == ("shadow", "large", "succeeded", "small", "same", "text", False, True, 12)
    told = await millrace(data_dir, "request", key)
    assert "shadow run: the same answer" in told.out
    reconciled = await millrace(data_dir, "reconcile", "--until", "0s", "--format", "json")
    assert reconciled.status == 0, reconciled
    assert json.loads(reconciled.out)["clean"]
    scorer = tmp_path / "scorer.json"
    learned = await millrace(data_dir, "route", "train", SAMPLE, "-o", scorer, "--from-shadow", "--format", "json")
    assert learned.status == 0, learned
    assert json.loads(learned.out)["questions"] >= 241
    assert scorer.exists()
