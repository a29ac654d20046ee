"""The load: each planned request at its time, over HTTP, streamed or not, retried with its key when told to wait."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import orjson

from millrace.replay.prompts import PlannedRequest

MAX_TRIES = 14
FIRST_PAUSE_SECONDS = 0.2  # after a broken connection; doubles up to the longest
LONGEST_PAUSE_SECONDS = 3.0


@dataclass(slots=True)
class Result:
    """What the client itself saw. Times in seconds, counts in tokens."""

    request: PlannedRequest
    outcome: str = "unanswered"
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: float | None = None
    total: float = 0.0
    tries: int = 0
    errors: list[str] = field(default_factory=list)


class Client:
    """Sends planned requests to one ingress address; `api_keys` maps a tenant to its key."""

    def __init__(self, http: httpx.AsyncClient, api_keys: dict[str, str], wait_seconds: int = 120) -> None:
        self._http = http
        self._api_keys = api_keys
        self._wait = wait_seconds

    async def send(self, request: PlannedRequest) -> Result:
        result = Result(request)
        started = time.perf_counter()
        while result.outcome == "unanswered" and result.tries < MAX_TRIES:
            result.tries += 1
            try:
                await self._attempt(request, result, started)
            except httpx.HTTPError as error:
                result.errors.append(type(error).__name__)
                await asyncio.sleep(min(FIRST_PAUSE_SECONDS * 2**result.tries, LONGEST_PAUSE_SECONDS))
        result.total = time.perf_counter() - started
        return result

    async def _attempt(self, request: PlannedRequest, result: Result, started: float) -> None:
        async with self._http.stream(
            "POST", "/v1/chat/completions", content=orjson.dumps(request.body), headers=self._headers(request)
        ) as response:
            if response.status_code in (429, 503):
                result.errors.append(str(response.status_code))
                await asyncio.sleep(float(response.headers.get("retry-after", 1)))
            elif response.status_code != httpx.codes.OK:
                result.errors.append(f"{response.status_code}: {_message(await response.aread())}")
                result.outcome = "failed"
            elif request.body["stream"]:
                await _read_stream(response, result, started)
            else:
                _read_answer(orjson.loads(await response.aread()), result)

    def _headers(self, request: PlannedRequest) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._api_keys[request.tenant]}",
            "Content-Type": "application/json",
            "Idempotency-Key": request.idempotency_key,
            "Millrace-User": request.user,
            "Millrace-Feature": request.feature,
            "Prefer": f"wait={self._wait}",
        }


async def run_plan(
    client: Client, requests: list[PlannedRequest], speed: float, on_result: Callable[[Result], None]
) -> list[Result]:
    """Sends each request at its time divided by `speed`; returns when all have ended."""
    started = time.perf_counter()
    tasks: list[asyncio.Task[Result]] = []
    for request in requests:
        await asyncio.sleep(max(0.0, request.at / speed - (time.perf_counter() - started)))
        task = asyncio.create_task(client.send(request))
        task.add_done_callback(lambda done: None if done.cancelled() else on_result(done.result()))
        tasks.append(task)
    return await asyncio.gather(*tasks)


async def _read_stream(response: httpx.Response, result: Result, started: float) -> None:
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        if result.ttft is None:
            result.ttft = time.perf_counter() - started
        if line == "data: [DONE]":
            result.outcome = "succeeded"
            return
        chunk = orjson.loads(line[6:])
        if "error" in chunk:
            result.errors.append(chunk["error"]["message"])
            result.outcome = "failed"
            return
        if chunk.get("usage"):
            _count(chunk, result)


def _read_answer(answer: dict[str, object], result: Result) -> None:
    _count(answer, result)
    result.outcome = "succeeded"


def _count(answer: dict[str, object], result: Result) -> None:
    usage = answer["usage"]
    assert isinstance(usage, dict)
    result.model = str(answer["model"])
    result.prompt_tokens = usage["prompt_tokens"]
    result.completion_tokens = usage["completion_tokens"]


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
