"""A cascade on the running stack: who is unsure hands the request on; one answer, one bill, and both attempts' rows."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from millrace.stack_file import StackFile
from tests.support.commands import millrace
from tests.support.until import until

pytestmark = pytest.mark.stack
SHIPPED = files("contracts").joinpath("routes.toml").read_text()
CASCADE = '{ model = "large", on = ["unsure"], stretch_tokens = 2, hold_tokens = 6, hold_ms = 60000 }'
ROWS = """
SELECT kind, attempt, model, escalated, cost_nano > 0, unbilled_nano > 0, completion_tokens
FROM usage WHERE idempotency_key = {key:String} ORDER BY attempt
"""
Ledger = Callable[..., Awaitable[list[tuple[object, ...]]]]


def asked(logprob: float, **fields: Any) -> dict[str, Any]:
    said = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
    return said | {"metadata": {"synthetic_logprob": str(logprob)}} | fields


async def test_an_unsure_answer_is_another_models(
    data_dir: Path, stack: StackFile, new_key: Callable[..., Awaitable[str]], ledger: Ledger, tmp_path: Path
) -> None:
    """Only this test's own feature has a cascade: others use the same stack."""
    feature, policy = f"f-{uuid4()}", tmp_path / "routes.toml"
    rule = f'[[rules]]\nname = "ours"\nmodel = "small"\nfeatures = ["{feature}"]\ncascade = {CASCADE}\n\n'
    policy.write_text(SHIPPED.replace('[[rules]]\nname = "simple"', f'{rule}[[rules]]\nname = "simple"'))
    secret = await new_key("cascading")
    headers = {"Authorization": f"Bearer {secret}", "Millrace-Feature": feature}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

        async def ask(key: str, logprob: float, **fields: Any) -> httpx.Response:
            body = asked(logprob, **fields)
            return await http.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": key})

        async def escalates() -> bool:
            return "millrace-escalated" in (await ask(f"try-{uuid4()}", -9.0)).headers

        applied = await millrace(data_dir, "route", "apply", policy, "--uncalibrated")
        try:
            assert applied.status == 0, applied
            await until(escalates)
            keys = {(sure, stream): f"{sure}-{stream}-{uuid4()}" for sure in (True, False) for stream in (True, False)}
            for (sure, stream), key in keys.items():
                answer = await ask(key, -0.01 if sure else -9.0, stream=stream)
                assert answer.status_code == 200, answer.text
                assert answer.headers["millrace-model"] == ("small" if sure else "large")
                assert answer.headers.get("millrace-escalated") == (None if sure else "unsure")
                assert '"logprobs":{' not in answer.text
                if stream:
                    assert answer.text.endswith("data: [DONE]\n\n")
                    assert '"model":"small"' not in answer.text or sure
            again = await ask(keys[False, False], -9.0)
            assert (again.headers["idempotent-replayed"], again.headers["millrace-escalated"]) == ("true", "unsure")
        finally:
            assert (await millrace(data_dir, "route", "reset")).status == 0
    for (sure, _), key in keys.items():
        rows = await ledger(ROWS, 1 if sure else 2, key=key)
        bill = ("usage", 1, "small", "", True, False, 12) if sure else ("usage", 2, "large", "unsure", True, False, 12)
        assert rows[-1] == bill
        if not sure:
            assert rows[0][:6] == ("escalated", 1, "small", "unsure", False, True)
        assert len(rows) == (1 if sure else 2)
