"""Limits as a caller and an operator meet them: OpenAI's SDK, its headers and errors, and `millrace limits`."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time_ns

import openai
import orjson
import pytest

from contracts.bodies import describe
from contracts.limits import Selector, dollars
from contracts.prices import load_prices
from contracts.settings import Settings
from millrace.limits import ask_usage, set_figures
from millrace.stack_file import StackFile
from tests.support.commands import millrace
from tests.support.until import until

pytestmark = pytest.mark.stack
TENANT, ROOM = "frugal", 3
ASKED = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture
async def frugal(stack: StackFile, stack_settings: Settings, new_key: Callable[..., Awaitable[str]]) -> str:
    """An API key of user ann, whose month's budget, which is in force, has room for so many requests."""
    price = load_prices().find("small", "2.5", time_ns() // 1_000_000)
    assert price is not None
    budget = price.cost(describe(orjson.dumps(ASKED)).digest.prompt_estimate, 0, 5) * ROOM
    figures = {"dollars_per_month": dollars(budget), "tokens_per_day": 5000, "requests_per_minute": 1000}
    await set_figures(stack_settings, Selector(TENANT, user="*"), figures)

    async def in_force() -> bool:
        [account], _ = await ask_usage(stack_settings, Selector(TENANT, user="ann"))
        return account.measures.keys() == figures.keys()

    await until(in_force)
    return await new_key(TENANT, "ann")


async def test_the_sdk_is_told_before_and_after_the_limit(
    stack: StackFile, stack_settings: Settings, frugal: str, data_dir: Path
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=frugal, max_retries=0) as sdk:
        chat = sdk.chat.completions.with_raw_response
        for stream in (False, True, True):
            headers = (await chat.create(**ASKED, stream=stream)).headers
            limits = [headers[f"x-ratelimit-limit-{name}"] for name in ("requests", "tokens")]
            left = [int(headers[f"x-ratelimit-remaining-{name}"]) for name in ("requests", "tokens")]
            assert limits == ["1000", "5000"]
            assert 0 < left[0] < 1000
            assert 0 < left[1] < 5000
        with pytest.raises(openai.RateLimitError, match="per month, of which") as refused:
            await chat.create(**ASKED)
        assert int(refused.value.response.headers["retry-after-ms"]) > 0
        with pytest.raises(openai.BadRequestError, match=r"can never fit the limit of .* of user ann of tenant frugal"):
            await chat.create(**ASKED | {"max_tokens": 6000})

    async def all_are_settled() -> bool:
        accounts, _ = await ask_usage(stack_settings, Selector(TENANT))
        return all(account.measures["concurrent_requests"].used == 0 for account in accounts if account.user is None)

    await until(all_are_settled)
    ended = await millrace(data_dir, "limits", "usage", "--tenant", TENANT, "--format", "json")
    assert ended.status == 0, ended
    used = {row.get("user"): row["measures"] for row in json.loads(ended.out)}
    for measure in ("dollars_per_month", "tokens_per_day"):
        assert used["ann"][measure]["used"] == used[None][measure]["used"] > 0
    assert used["ann"]["dollars_per_month"]["used"] <= used["ann"]["dollars_per_month"]["limit"]
