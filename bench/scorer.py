"""CPU of one routing decision: the median labelled question, and a prompt of 8,000 tokens."""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from bench.results import publish
from contracts.bodies import describe
from millrace.routing.dataset import Dataset
from streams.complexity import SCORERS

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "routing_sample.jsonl"
ROUNDS = 500
LONG = 32_000  # characters, about 8,000 tokens


async def main() -> None:
    """Publishes a row per scorer and prompt."""
    prompts = sorted((row.prompt for row in Dataset.read(SAMPLE).rows), key=len)
    cases = {"median": prompts[len(prompts) // 2], "8,000 tokens": "\n".join(prompts * 2)[:LONG]}
    rows = [_row(scorer, name, prompt) for scorer in SCORERS for name, prompt in cases.items()]
    await asyncio.to_thread(publish, "scorer", "One routing decision", rows)


def _row(scorer: str, name: str, prompt: str) -> dict[str, object]:
    body = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": prompt}]})
    tokens = describe(body).digest.prompt_estimate
    score = next(found for known, found in SCORERS.items() if known == scorer)
    times = _cpu_ms(lambda: score(body, tokens))
    return {
        "scorer": scorer,
        "prompt": name,
        "characters": len(prompt),
        "CPU ms, median": statistics.median(times),
        "CPU ms, best": min(times),
    }


def _cpu_ms(decide: Callable[[], object]) -> list[float]:
    decide()
    times = []
    for _ in range(ROUNDS):
        started = time.thread_time_ns()
        decide()
        times.append((time.thread_time_ns() - started) / 1e6)
    return times
