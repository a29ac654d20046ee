"""Lanes, tenants and deadlines under too much load: `python -m bench.lanes [isolation|fairness|goodput]`."""

import asyncio
import sys
from functools import partial
from typing import Any

from bench.kafka_load import CAPACITY, OUTPUT_TOKENS, REQUESTS_PER_SECOND, Ended, KafkaLoad, kafka_load, now_ms
from bench.results import publish
from millrace.replay.report import percentile

ISOLATION = "Interactive work at half the capacity beside batch work; TTFT from acceptance to first token"
WARM_SECONDS = 5.0  # of each phase, left out: what ran before is still in the engine
QUEUED = 10_000  # requests of one tenant before another's one
DEADLINE_MS = 2_000


async def isolation(seconds: float = 40.0) -> None:
    async with kafka_load(worker_quiet_seconds="2") as load:
        rows = await beside_batch_work(load, CAPACITY, seconds)
    publish("isolation", ISOLATION, rows)


async def beside_batch_work(
    load: KafkaLoad, capacity: float, seconds: float, batch_tokens: int = OUTPUT_TOKENS
) -> list[dict[str, Any]]:
    """Interactive work at half the capacity (tokens per second): alone, beside a flood of batch work with answers of
    `batch_tokens`; then at twice the capacity."""
    most, flood = capacity / OUTPUT_TOKENS, 10 * capacity / batch_tokens
    phases = (
        ("no flood", most / 2, 0.0),
        ("batch 10x", most / 2, flood),
        ("batch 10x, interactive 2x", 2 * most, flood),
    )
    batch = partial(load.ask, "night", "batch", output_tokens=batch_tokens)
    rows: list[dict[str, Any]] = []
    for name, interactive, flooding in phases:
        began = now_ms()
        work = [load.steadily(interactive, seconds, partial(load.ask, "acme"))]
        if flooding:
            work.append(load.steadily(flooding, seconds, batch))
        await asyncio.gather(*work)
        rows.append({"load": name} | _by_lane(load.between(began + WARM_SECONDS * 1000, now_ms()), seconds))
    alone = rows[0]["TTFT p99 ms"]
    return [row | {"p99 to alone": row["TTFT p99 ms"] / alone} for row in rows]


async def fairness(others: int = 20) -> None:
    """One tenant queues 10,000 requests; another asks for one at a time. Then three tenants, one of weight 3, all
    want more than there is."""
    async with kafka_load(tenant_weights="gold=3") as load:
        alone = [await _one_by_one(load, "alone") for _ in range(others)]
        await load.at_once(QUEUED, partial(load.ask, "big"))
        await load.until_queued(QUEUED)
        beside = [await _one_by_one(load, "small") for _ in range(others)]
        queued = [end.ttft_ms or 0 for end in load.of("big")]
        publish(
            "fairness",
            f"One request at a time of one tenant while {QUEUED:,} of another are queued",
            [
                {"requests": "alone"} | _times(alone),
                {"requests": "beside the queue"} | _times(beside),
                {"requests": "in the queue, so far"} | _times(queued),
            ],
        )
    async with kafka_load(tenant_weights="gold=3") as load:
        for tenant in ("gold", "silver", "bronze"):
            await load.at_once(1500, partial(load.ask, tenant))
        await load.until(lambda: len(load.ended) > 100, 60)
        began = now_ms()
        await load.until(lambda: len(load.ended) > 1100, 180)
        _publish_shares(load.between(began, now_ms()))


async def goodput(seconds: float = 40.0) -> None:
    """Three times as much as the engine can do, each request to start within two seconds."""
    rows: list[dict[str, Any]] = []
    async with kafka_load() as load:
        for name, times in (("capacity", 1.5), ("overload 3x", 3.0)):
            began = now_ms()
            deadline = DEADLINE_MS if times > 2 else None
            await load.steadily(
                times * REQUESTS_PER_SECOND, seconds, partial(load.ask, name[:4], "interactive", deadline)
            )
            ended = [end for end in load.between(began + WARM_SECONDS * 1000, now_ms()) if end.tenant == name[:4]]
            rows.append({"load": name} | _goodput(ended, seconds - WARM_SECONDS))
            await load.until(lambda: len(load.ended) == load.asked, 180)
    best = rows[0]["tokens/s"]
    publish(
        "goodput",
        f"Requests that must start within {DEADLINE_MS / 1000:g} s, at 3x what the engine can do",
        [row | {"in time, of capacity": row["in time, tokens/s"] / best} for row in rows],
    )


def _by_lane(ended: list[Ended], seconds: float) -> dict[str, Any]:
    lanes = {lane: [end for end in ended if end.request.lane == lane] for lane in ("interactive", "batch")}
    tokens = {lane: sum(end.tokens for end in ends) for lane, ends in lanes.items()}
    times = _times([end.ttft_ms for end in lanes["interactive"] if end.ttft_ms is not None])
    rates = {f"{lane} tokens/s": count / (seconds - WARM_SECONDS) for lane, count in tokens.items()}
    return times | rates | {"batch share": tokens["batch"] / max(sum(tokens.values()), 1)}


def _times(ms: list[int]) -> dict[str, Any]:
    known = [float(one) for one in ms]
    return {"answers": len(known)} | {f"TTFT p{n} ms": percentile(known, n / 100) for n in (50, 99)}


def _goodput(ended: list[Ended], seconds: float) -> dict[str, Any]:
    in_time = [end for end in ended if end.in_time]
    return {
        "ended": len(ended),
        "expired": sum(end.completion.outcome == "expired" for end in ended),
        "ran too late": sum(bool(end.tokens) and not end.in_time for end in ended),
        "tokens/s": sum(end.tokens for end in ended) / seconds,
        "in time, tokens/s": sum(end.tokens for end in in_time) / seconds,
        "model's limit, tokens/s": CAPACITY,
    }


def _publish_shares(ended: list[Ended]) -> None:
    tokens = {
        tenant: sum(end.tokens for end in ended if end.tenant == tenant) for tenant in ("gold", "silver", "bronze")
    }
    rows = [
        {"tenant": tenant, "weight": weight, "tokens": tokens[tenant], "share": tokens[tenant] / sum(tokens.values())}
        for tenant, weight in (("gold", 3), ("silver", 1), ("bronze", 1))
    ]
    publish("shares", "Tokens while three tenants want more than there is", rows)


async def _one_by_one(load: KafkaLoad, tenant: str) -> int:
    before = len(load.of(tenant))
    await load.ask(tenant)
    await load.until(lambda: len(load.of(tenant)) > before, 120)
    return load.of(tenant)[-1].ttft_ms or 0


async def main() -> None:
    for bench in (isolation, fairness, goodput):
        await bench()


if __name__ == "__main__":
    chosen = {"isolation": isolation, "fairness": fairness, "goodput": goodput}
    asyncio.run(chosen[sys.argv[1]]() if len(sys.argv) > 1 else main())
