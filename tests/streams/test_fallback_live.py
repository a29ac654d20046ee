"""Workers die, return and fail, and requests go where somebody takes them: real processes from HTTP to the engine."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from contracts.api_keys import ApiKey, new_api_key
from contracts.catalogue import load_catalogue
from contracts.clock import now_ms
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.service_process import ServiceProcess
from millrace.topic_admin import ensure_topics
from tests.inference.harness import worker_process
from tests.streams.live import running, streams_process
from tests.support.beats import Beats, beats_of
from tests.support.ingress import ingress_process, write_key
from tests.support.until import until

pytestmark = pytest.mark.broker
ROUTES = """
version = "test"
[models.small]
synthetic = { step_us = 0, prefill_us_per_token = 0, decode_us_per_sequence = 0 }
[models.large]
fallback = ["small"]
synthetic = { step_us = 0, prefill_us_per_token = 0, decode_us_per_sequence = 0 }
[[rules]]
name = "all"
model = "large"
"""


@dataclass
class House:
    """Everything but the workers."""

    settings: Settings
    folder: Path
    http: httpx.AsyncClient
    beats: Beats

    def worker(self, model: str) -> ServiceProcess:
        more = {"worker_models": model, "synthetic_faults": "1"}
        return worker_process(self.settings, self.folder, f"worker-{model}", **more)

    async def ask(self, model: str, headers: Mapping[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2} | fields
        return await self.http.post("/v1/chat/completions", content=orjson.dumps(body), headers=dict(headers or {}))

    async def known(self, model: str, *, alive: bool) -> None:
        """Returns when beats say so: by a worker with all partitions, or by their silence."""

        async def told() -> bool:
            loads = self.beats.outlook.loads(model, now_ms())
            if not alive:
                return not loads
            return any(len(lane.positions) == self.settings.work_partitions for _, load in loads for lane in load.lanes)

        await until(told)


@pytest.fixture
async def house(settings: Settings, tmp_path: Path) -> AsyncIterator[House]:
    routes = tmp_path / "routes.toml"
    routes.write_text(ROUTES)
    settings = settings.model_copy(
        update={"routes_file": routes, "breaker_least_requests": 4, "breaker_open_seconds": 1}
    )
    await ensure_topics(settings, all_topics(settings, load_catalogue(routes)))
    secret = new_api_key()
    await write_key(settings, secret, ApiKey(id="k", tenant="acme", created_at=0))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(streams_process(settings, tmp_path)))
        url, _ = await stack.enter_async_context(ingress_process(settings))
        beats = await stack.enter_async_context(beats_of(settings))
        headers = {"Authorization": f"Bearer {secret}"}
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=60))
        yield House(settings, tmp_path, http, beats)


def said(answer: httpx.Response) -> tuple[int, str, str, str]:
    names = ("millrace-model", "millrace-fallback-from", "millrace-fallback-reason")
    return (answer.status_code, *(answer.headers.get(name, "") for name in names))


async def test_when_the_only_worker_dies_its_requests_go_to_the_next_model_or_are_refused_at_once(house: House) -> None:
    small, large = house.worker("small"), house.worker("large")
    async with running(small, large):
        await house.known("small", alive=True)
        await house.known("large", alive=True)
        assert said(await house.ask("large")) == (200, "large", "", "")
        large.kill()
        await large.wait()
        await house.known("large", alive=False)
        assert said(await house.ask("large")) == (200, "small", "large", "no_worker")
        streamed = await house.ask("large", stream=True)
        assert said(streamed) == (200, "small", "large", "no_worker")
        small.kill()
        await small.wait()
        await house.known("small", alive=False)
        near = {"Millrace-Deadline": "5"}
        for headers in (near, near | {"Idempotency-Key": "mine"}):  # at the door; by the streams, who know the key
            refused = await house.ask("small", headers)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "no_worker"
            assert 0 < int(refused.headers["retry-after"]) <= 30
        again = house.worker("small")
        async with running(again):
            await house.known("small", alive=True)
            assert said(await house.ask("small", {"Idempotency-Key": "mine"} | near)) == (200, "small", "", "")


async def test_a_failing_model_is_left_alone_until_a_probe_ends_well(house: House) -> None:
    async with running(house.worker("small"), house.worker("large")):
        await house.known("small", alive=True)
        await house.known("large", alive=True)

        async def failing() -> bool:
            answer = await house.ask("large", metadata={"synthetic_fault": "error"}, max_tokens=3, stream=True)
            return answer.headers.get("millrace-fallback-reason") == "failing"

        await until(failing)

        async def well() -> bool:
            return said(await house.ask("large")) == (200, "large", "", "")

        await until(well)  # the probe, once it is time for one
        await until(well)
