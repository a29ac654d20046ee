"""A cascade on the running stack: who is unsure hands the request on; one answer, one bill, and both attempts' rows."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from millrace.stack_file import StackFile
from tests.stack.policies import applied
from tests.support.until import until

pytestmark = pytest.mark.stack
RULE = """
model = "small"
cascade = { model = "large", on = ["unsure"], stretch_tokens = 2, hold_tokens = 6, hold_ms = 60000 }
"""
TO_ITS_END = """
model = "small"
cascade = { model = "large", on = ["unsure"], worst_logprob = -1000, hold_tokens = 64, hold_ms = 60000 }
"""
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
    feature = f"f-{uuid4()}"
    secret = await new_key("cascading")
    headers = {"Authorization": f"Bearer {secret}", "Millrace-Feature": feature}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

        async def ask(key: str, logprob: float, **fields: Any) -> httpx.Response:
            body = asked(logprob, **fields)
            return await http.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": key})

        async def escalates() -> bool:
            return "millrace-escalated" in (await ask(f"try-{uuid4()}", -9.0)).headers

        async with applied(data_dir, tmp_path, RULE, feature):
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
    for (sure, _), key in keys.items():
        rows = await ledger(ROWS, 1 if sure else 2, key=key)
        bill = ("usage", 1, "small", "", True, False, 12) if sure else ("usage", 2, "large", "unsure", True, False, 12)
        assert rows[-1] == bill
        if not sure:
            assert rows[0][:6] == ("escalated", 1, "small", "unsure", False, True)
        assert len(rows) == (1 if sure else 2)


async def test_where_the_second_model_fails_the_first_answer_is_given(
    data_dir: Path, stack: StackFile, new_key: Callable[..., Awaitable[str]], ledger: Ledger, tmp_path: Path
) -> None:
    """Whole and streamed: it is what its caller gets, and what its caller pays."""
    feature = f"f-{uuid4()}"
    headers = {"Authorization": f"Bearer {await new_key('cascading')}", "Millrace-Feature": feature}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:

        async def ask(key: str, **fields: Any) -> httpx.Response:
            return await http.post("/v1/chat/completions", json=asked(-9.0, **fields), headers={"Idempotency-Key": key})

        async def escalates() -> bool:
            return "millrace-escalated" in (await ask(f"try-{uuid4()}")).headers

        async with applied(data_dir, tmp_path, TO_ITS_END, feature):
            await until(escalates)
            overloaded = {
                "metadata": {"synthetic_logprob": "-9", "synthetic_fault": "overload", "synthetic_fault_of": "large"}
            }
            whole, streamed = f"whole-{uuid4()}", f"streamed-{uuid4()}"
            answer = await ask(whole, **overloaded)
            stream = await ask(streamed, stream=True, **overloaded)
    assert (answer.status_code, answer.json()["model"]) == (200, "small"), answer.text
    assert (answer.headers["millrace-model"], answer.headers["millrace-escalated"]) == ("small", "unsure")
    assert answer.headers["millrace-fallback-from"] == "large"
    assert answer.headers["millrace-fallback-reason"] == "failed"
    assert stream.status_code == 200
    assert '"model":"small"' in stream.text
    assert '"error"' not in stream.text
    assert stream.text.endswith("data: [DONE]\n\n")
    for key in (whole, streamed):
        first, bill = await ledger(ROWS, 2, key=key)
        assert first == ("escalated", 1, "small", "unsure", False, True, 12)
        assert bill == ("usage", 2, "small", "unsure", True, False, 12)
