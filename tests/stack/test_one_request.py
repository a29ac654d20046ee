"""One request end to end, by OpenAI's own SDK: answered, replayed, attached, fetched, billed."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import openai
import pytest

from contracts.prices import load_prices
from millrace.stack_file import StackFile

pytestmark = pytest.mark.stack
MESSAGES = [{"role": "user", "content": "Where is my order?"}]
ROW = """
SELECT tenant, user, feature, tags['team'], model, outcome, prompt_tokens, completion_tokens, cost_nano, route
FROM usage WHERE idempotency_key = {key:String}
"""


def named(key: str, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key, **headers}


async def test_whole_and_streamed_answers_say_the_same(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.chat.completions.create(model="small", messages=MESSAGES, max_tokens=12)
    stream = await sdk.chat.completions.create(
        model="small", messages=MESSAGES, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert "synthetic" in (whole.choices[0].message.content or "") + (whole.system_fingerprint or "")


async def test_a_text_completion(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.completions.create(model="small", prompt="Once upon a time", max_tokens=5)
    assert answer.object == "text_completion"
    assert answer.choices[0].text


async def test_a_retry_gets_the_same_bytes_and_no_second_bill(
    sdk: openai.AsyncOpenAI, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    key = f"order-{uuid4()}"
    headers = named(key, **{"Millrace-User": "ann", "Millrace-Feature": "support", "Millrace-Tags": "team=care"})
    create = sdk.chat.completions.with_raw_response.create
    first = await create(model="auto", messages=MESSAGES, max_tokens=9, extra_headers=headers)
    again = await create(model="auto", messages=MESSAGES, max_tokens=9, extra_headers=headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    [row] = await ledger(ROW, 1, key=key)
    usage = first.parse().usage
    assert usage is not None
    price = load_prices().find("small", "2.5", 1_795_000_000_000)
    assert price is not None
    cost = price.cost(usage.prompt_tokens, 0, usage.completion_tokens)
    assert row == ("acme", "ann", "support", "care", "small", "succeeded", usage.prompt_tokens, 9, cost, "simple")


async def test_the_same_key_with_another_body_is_refused(sdk: openai.AsyncOpenAI) -> None:
    key = f"order-{uuid4()}"
    await sdk.chat.completions.create(model="small", messages=MESSAGES, max_tokens=3, extra_headers=named(key))
    with pytest.raises(openai.UnprocessableEntityError, match="key"):
        await sdk.chat.completions.create(model="small", messages=MESSAGES, max_tokens=4, extra_headers=named(key))


async def test_many_at_once_with_one_key_are_one_run(
    sdk: openai.AsyncOpenAI, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    key = f"order-{uuid4()}"

    async def whole() -> str | None:
        answer = await sdk.chat.completions.create(
            model="small", messages=MESSAGES, max_tokens=40, extra_headers=named(key)
        )
        return answer.choices[0].message.content

    async def streamed() -> str:
        stream = await sdk.chat.completions.create(
            model="small", messages=MESSAGES, max_tokens=40, stream=True, extra_headers=named(key)
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    answers = await asyncio.gather(*(whole() for _ in range(5)), *(streamed() for _ in range(5)))
    assert len(set(answers)) == 1
    assert len(await ledger(ROW, 1, key=key)) == 1


async def test_asynchronous_requests_are_fetched_by_key(sdk: openai.AsyncOpenAI, stack: StackFile) -> None:
    headers = {"Authorization": f"Bearer {sdk.api_key}", "Prefer": "respond-async"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=40) as http:
        body = {"model": "small", "messages": MESSAGES, "max_tokens": 30}
        posted = await http.post("/v1/chat/completions", json=body)
        assert posted.status_code == 202
        state = (await http.get(posted.headers["location"], params={"wait": 30})).json()
        assert state["status"] == "succeeded"
        assert state["response"]["usage"]["completion_tokens"] == 30
        missing = await http.get("/v1/requests/nobody-asked-this")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "request_not_found"


async def test_another_tenant_never_sees_the_key(
    sdk: openai.AsyncOpenAI, stack: StackFile, new_key: Callable[..., Awaitable[str]]
) -> None:
    key = f"order-{uuid4()}"
    await sdk.chat.completions.create(model="small", messages=MESSAGES, max_tokens=3, extra_headers=named(key))
    other = {"Authorization": f"Bearer {await new_key('globex')}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=other) as http:
        assert (await http.get(f"/v1/requests/{key}")).status_code == 404


async def test_hard_questions_go_to_the_large_model(sdk: openai.AsyncOpenAI) -> None:
    hard = (
        "Prove step by step that the sum of the first n odd numbers is n^2. Then refactor ```def f(x): return x``` and "
        "derive its complexity. First explain, then show every equation, and finally compare three alternatives."
    )
    easy = await sdk.chat.completions.create(model="auto", messages=MESSAGES, max_tokens=3)
    answer = await sdk.chat.completions.create(model="auto", messages=[{"role": "user", "content": hard}], max_tokens=3)
    assert (easy.model, answer.model) == ("small", "large")
