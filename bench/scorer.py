"""CPU of one routing decision: the median labelled question, and a prompt of 8,000 tokens.

Once with each scorer alone, then the whole choice under a policy that uses everything: conditions, a class, a split,
stickiness.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from bench.results import publish
from contracts.bodies import describe, parse_object
from contracts.catalogue import Catalogue, parse_toml
from contracts.envelope import Admitted
from contracts.prices import load_prices
from millrace.routing.dataset import Dataset
from streams.complexity import scorer
from streams.route import Router

SAMPLE = Path(__file__).parents[1] / "tests" / "data" / "routing_sample.jsonl"
POLICY = Path(__file__).parent / "policy.toml"
ROUNDS = 500
LONG = 32_000  # characters, about 8,000 tokens
AT = 1_790_000_000_000


async def main() -> None:
    """Publishes a row per decision and prompt."""
    prompts = sorted((row.prompt for row in Dataset.read(SAMPLE).rows), key=len)
    cases = {"median": prompts[len(prompts) // 2], "8,000 tokens": "\n".join(prompts * 2)[:LONG]}
    rows = [_row(decision, name, prompt) for decision in _DECISIONS for name, prompt in cases.items()]
    await asyncio.to_thread(publish, "scorer", "One routing decision", rows)


def _row(decision: str, name: str, prompt: str) -> dict[str, object]:
    times = _cpu_ms(_DECISIONS[decision](prompt))
    return {
        "decision": decision,
        "prompt": name,
        "characters": len(prompt),
        "CPU ms, median": statistics.median(times),
        "CPU ms, best": min(times),
    }


def _score(name: Any) -> Callable[[str], Callable[[], object]]:
    def prepared(prompt: str) -> Callable[[], object]:
        body, tokens = _asked([prompt])
        score = scorer(name).score
        return lambda: score(parse_object(body), tokens, 0)

    return prepared


def _choice(turns: int) -> Callable[[str], Callable[[], object]]:
    def prepared(prompt: str) -> Callable[[], object]:
        body, _ = _asked([prompt] * turns)
        digest = describe(body).digest.model_dump()
        request = Admitted(**digest, request_key="acme:k", claim="0.0", accepted_at=AT, deduped_at=AT)
        router = Router(parse_toml(POLICY.read_text(), POLICY.name, Catalogue), load_prices())
        return lambda: router.choose(request, body, AT)

    return prepared


def _asked(questions: list[str]) -> tuple[bytes, int]:
    spoken = [{"role": "user", "content": question} for question in questions]
    body = orjson.dumps({"model": "auto", "messages": spoken})
    return body, describe(body).digest.prompt_estimate


_DECISIONS = {
    "score: features": _score("features"),
    "score: learned": _score("learned"),
    "whole choice": _choice(1),
    "whole choice, 2nd turn": _choice(2),
}


def _cpu_ms(decide: Callable[[], object]) -> list[float]:
    decide()
    times = []
    for _ in range(ROUNDS):
        started = time.thread_time_ns()
        decide()
        times.append((time.thread_time_ns() - started) / 1e6)
    return times
