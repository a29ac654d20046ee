"""What ingress writes of a prompt that its model's own tokenizer can count."""

import aiohttp
import orjson

from contracts.settings import Settings
from contracts.tokenizer import Tokenizer
from tests.ingress.conftest import LIMITS
from tests.support.ingress import memory_api

ASKED = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
COUNT = b"1009"  # the prompt's, and what its template adds


async def test_the_count_is_written_over_http_and_websocket() -> None:
    async with memory_api(Settings(**LIMITS)) as (api, gateway):
        gateway.tokenizers = {"small": Tokenizer(lambda _: 1000)}
        async with api.http() as client:
            for model in ("small", "large"):
                (await client.post("/v1/chat/completions", json=ASKED | {"model": model})).raise_for_status()
        headers = {"Authorization": f"Bearer {api.secret}"}
        async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(f"{api.url}/v1/ws") as socket:
            await socket.send_str(orjson.dumps({"type": "create", "ref": "a", "body": ASKED}).decode())
            named, other, over_websocket, *_ = await api.pipeline.seen(3)
    assert (named.headers["prompt-count"], over_websocket.headers["prompt-count"]) == (COUNT, COUNT)
    assert "prompt-count" not in other.headers
