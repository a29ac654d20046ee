"""A user of the running stack is forgotten: stored answer and ledger; what was billed is still proved."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from millrace.stack_file import StackFile
from tests.support.commands import millrace
from tests.support.until import until

pytestmark = pytest.mark.stack
Ledger = Callable[..., Awaitable[list[tuple[object, ...]]]]


async def test_a_user_is_forgotten(
    data_dir: Path, stack: StackFile, new_key: Callable[..., Awaitable[str]], ledger: Ledger
) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "who am I?"}], "max_tokens": 5}
    headers = {
        "Authorization": f"Bearer {await new_key('private')}",
        "Idempotency-Key": "secret",
        "Millrace-User": "ann",
        "Millrace-Tags": "desk=7",
    }
    ours = "SELECT user, cost_nano, idempotency_key FROM usage WHERE tenant = 'private'"
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        first = await http.post("/v1/chat/completions", json=body)
        assert first.status_code == httpx.codes.OK
        [(user, cost, key)] = await ledger(ours, 1)
        assert (user, key) == ("ann", "secret")

        ended = await millrace(data_dir, "forget", "--tenant", "private", "--user", "ann", "--yes")
        assert ended.status == 0, ended
        assert ended.out.startswith("1 rows of the ledger no longer tell whose they are"), ended
        assert "1 stored answers are removed" in ended.out
        assert "frames on responses" in ended.out
        [(user, still, key)] = await ledger(ours, 1)
        assert (user, still) == ("", cost)
        assert key != "secret"

        async def gone() -> bool:
            return (await http.post("/v1/chat/completions", json=body)).status_code == httpx.codes.GONE

        await until(gone)
    reconciled = await millrace(data_dir, "reconcile", "--until", "0s", "--format", "json")
    assert reconciled.status == 0, reconciled
    assert json.loads(reconciled.out)["clean"]
    rebuilt = await millrace(data_dir, "rebuild")
    assert rebuilt.status == 0, rebuilt
