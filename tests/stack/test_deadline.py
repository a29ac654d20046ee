"""A deadline from the caller's header to the ledger."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import openai
import pytest

pytestmark = pytest.mark.stack
PAST = "2026-01-01T00:00:00Z"
ROW = "SELECT outcome, prompt_tokens, completion_tokens, cost_nano FROM usage WHERE idempotency_key = {key:String}"


async def test_what_comes_too_late_never_runs_and_costs_nothing(
    sdk: openai.AsyncOpenAI, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    key = f"late-{uuid4()}"
    headers = {"Idempotency-Key": key, "Millrace-Deadline": PAST}
    with pytest.raises(openai.APIStatusError, match="deadline passed") as late:
        await sdk.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "hello"}], max_tokens=5, extra_headers=headers
        )
    assert late.value.status_code == 504
    assert await ledger(ROW, 1, key=key) == [("expired", 0, 0, 0)]
