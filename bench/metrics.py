"""What metrics cost: the CPU time that one request pays in each service, and that one scrape takes.

A request's share is what its service does for metrics alone: every counter and histogram that it touches on the way of
one answered request, called as the service calls them.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import orjson

from bench.results import publish
from contracts.completion import Completion
from contracts.envelope import Work
from contracts.outcomes import Outcome
from contracts.usage import UsageEvent

ROUNDS = 20_000
TOKENS = 100  # of an answer: engine steps that tell one token each
AT = 1_790_000_000_000


async def main() -> None:
    """Publishes a row per service."""
    rows = [await asyncio.to_thread(_apart, service) for service in _SERVICES]
    await asyncio.to_thread(publish, "metrics", "What metrics cost", rows)


def _apart(service: str) -> dict[str, Any]:
    """In a process of its own, since all metrics of a process share one registry."""
    command = [sys.executable, "-m", "bench.metrics", service]
    row: dict[str, Any] = orjson.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return row


def _row(service: str) -> dict[str, Any]:
    paid = asyncio.run(_SERVICES[service]())
    from contracts.instruments import exposition  # noqa: PLC0415

    body, _ = exposition("")
    scrape = _cpu_us(lambda: exposition(""), 50)
    return {
        "service": service,
        "CPU µs a request": paid,
        "scrape, CPU ms": scrape / 1000,
        "series": sum(not line.startswith(b"#") for line in body.splitlines()),
        "KiB": len(body) / 1024,
    }


async def _ingress() -> float:
    """The HTTP request's own."""
    from contracts.catalogue import load_catalogue  # noqa: PLC0415
    from contracts.settings import Settings  # noqa: PLC0415
    from ingress.app import build_app  # noqa: PLC0415
    from ingress.gateway import Gateway  # noqa: PLC0415
    from ingress.metrics import Measured  # noqa: PLC0415

    gateway = Gateway(Settings(), load_catalogue(), SimpleNamespace(reachable=True), "responses/0")
    app = build_app(gateway)
    route = next(route for route in app.routes if getattr(route, "path", "") == "/v1/chat/completions")

    async def answer(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        scope["route"] = route
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None: ...

    async def call(run: Callable[..., Awaitable[None]]) -> None:
        await run({"type": "http", "method": "POST"}, send, send)

    measured = Measured(answer, app.routes, gateway)
    return await _difference_us(lambda: call(measured), lambda: call(answer))


async def _streams() -> float:
    """Dedupe, meter and tally; and each stage's share of a batch of 20 records."""
    from contracts.catalogue import load_catalogue  # noqa: PLC0415
    from contracts.poison_limit import PoisonLimit  # noqa: PLC0415
    from contracts.settings import Settings  # noqa: PLC0415
    from streams.metrics import StageMetrics, admitted, decided, ended, prepare  # noqa: PLC0415

    settings = Settings()
    prepare(settings, load_catalogue())
    stages = [StageMetrics(name, PoisonLimit.of(settings)) for name in ("dedupe", "meter", "settle", "tally")]
    event = UsageEvent(
        event_id="0" * 32, event_time=AT, tenant="acme", idempotency_key="k", claim="0.1", operation="chat",
        requested_model="small", model="small", engine="synthetic", outcome=Outcome.SUCCEEDED, status=200,
        accepted_at=AT, deduped_at=AT, finished_at=AT + 900, prompt_tokens=300, completion_tokens=TOKENS,
        cost_nano=12_345,
    )  # fmt: skip

    def request() -> None:
        decided("new")
        admitted("small", "interactive", "simple", 400)
        ended(event)

    def batch() -> None:
        for stage in stages:
            stage.records.inc(20)

    return _cpu_us(request, ROUNDS) + _cpu_us(batch, ROUNDS) / 20


async def _worker() -> float:
    """A run of 100 tokens that come one by one, and its end."""
    from contracts.catalogue import load_catalogue  # noqa: PLC0415
    from inference.metrics import ModelMetrics  # noqa: PLC0415

    [metrics, _] = [ModelMetrics(name, spec, "synthetic") for name, spec in load_catalogue().models.items()]
    work = Work(
        operation="chat", requested_model="small", fingerprint="0" * 32, prompt_estimate=300, request_key="acme:k",
        claim="0.1", accepted_at=AT, deduped_at=AT, model="small", route="simple", complexity=0.1, router_version="1",
        reserved_tokens=400, admitted_at=AT,
    )  # fmt: skip
    completion = Completion(
        outcome=Outcome.SUCCEEDED, prompt_tokens=300, cached_tokens=128, completion_tokens=TOKENS, started_at=AT + 5,
        first_token_at=AT + 100, finished_at=AT + 900, engine_us=800_000,
    )  # fmt: skip

    def run() -> None:
        for _ in range(TOKENS):
            metrics.generated[work.lane] += 1
        metrics.ended(work, completion, b"")

    return _cpu_us(run, ROUNDS // 10)


async def _analytics() -> float:
    """A block of one event, which is the worst: a block pays once."""
    from analytics import metrics  # noqa: PLC0415

    def store() -> None:
        with metrics.stores.time():
            pass
        metrics.dead_letters["sink"].inc(0)
        metrics.blocks.observe(1)
        metrics.stored.inc(1)

    return _cpu_us(store, ROUNDS)


_SERVICES: dict[str, Callable[[], Awaitable[float]]] = {
    "ingress": _ingress,
    "streams": _streams,
    "worker": _worker,
    "analytics": _analytics,
}


def _cpu_us(do: Callable[[], object], rounds: int) -> float:
    """The best of five, per call."""
    best = float("inf")
    for _ in range(5):
        started = time.thread_time_ns()
        for _ in range(rounds):
            do()
        best = min(best, (time.thread_time_ns() - started) / rounds / 1000)
    return best


async def _difference_us(one: Callable[[], Awaitable[None]], other: Callable[[], Awaitable[None]]) -> float:
    best = [float("inf"), float("inf")]
    for _ in range(5):
        for n, call in enumerate((one, other)):
            started = time.thread_time_ns()
            for _ in range(ROUNDS):
                await call()
            best[n] = min(best[n], (time.thread_time_ns() - started) / ROUNDS / 1000)
    return best[0] - best[1]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.buffer.write(orjson.dumps(_row(sys.argv[1])))
    else:
        asyncio.run(main())
