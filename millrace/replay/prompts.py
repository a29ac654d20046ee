"""Requests made for a trace: text of the right length, shared prefixes, easy and hard questions, several tenants."""

import random
from typing import Any, NamedTuple

from contracts.tokens import BYTES_PER_TOKEN
from millrace.replay.trace import Arrival

TENANTS = ("acme", "globex", "initech")
FEATURES = {
    "support-chat": "You are the support assistant of an online shop. Be brief, kind and exact. ",
    "search": "You answer from the passages that follow, and cite the passage for every claim. ",
    "code-review": "You review patches. Name the defect, the line and the fix. ",
    "summarize": "You condense documents for busy readers, keeping figures and names. ",
}
EASY = (
    "Where is my order?",
    "Translate 'good morning' to Spanish.",
    "What are your opening hours on Sunday?",
    "Summarise the passage in one sentence.",
    "Thank the customer and close the ticket.",
)
HARD = (
    "Prove step by step that the sum of the first n odd numbers is n^2, then derive the formula for the cubes.",
    "Refactor this so that it streams: ```def load(path): return [parse(x) for x in open(path)]``` Explain each step.",
    "A train leaves at 9:40 at 84 km/h, one at 10:05 at 112 km/h. Derive when the second overtakes; show equations.",
    "Compare three designs for exactly-once delivery, step by step, then choose one and justify it with numbers.",
)
PROSE = """the order arrived on monday with two parcels and a note from the depot on a missing label while the carrier
promised a second attempt before noon and the customer asked for a refund of the shipping fee as agreed last week"""
WORDS = PROSE.split()
STREAMED_SHARE = 0.5
MODELS = (("auto", 0.7), ("small", 0.2), ("large", 0.1))


class PlannedRequest(NamedTuple):
    at: float  # seconds after the start
    tenant: str
    user: str
    feature: str
    idempotency_key: str
    body: dict[str, Any]


def plan(trace: list[Arrival], run: str, seed: int = 1) -> list[PlannedRequest]:
    """One request per arrival; the same trace, run and seed plan the same requests."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable workload, no secret
    return [_request(arrival, f"{run}-{number:06d}", rng) for number, arrival in enumerate(trace)]


def _request(arrival: Arrival, key: str, rng: random.Random) -> PlannedRequest:
    tenant = rng.choices(TENANTS, weights=(6, 3, 1))[0]
    feature = rng.choice(tuple(FEATURES))
    streamed = rng.random() < STREAMED_SHARE
    body: dict[str, Any] = {
        "model": rng.choices([name for name, _ in MODELS], weights=[share for _, share in MODELS])[0],
        "messages": _messages(feature, arrival.prompt_tokens, rng),
        "max_tokens": arrival.output_tokens,
        "stream": streamed,
    }
    if streamed:
        body["stream_options"] = {"include_usage": True}
    return PlannedRequest(arrival.at, tenant, f"{tenant}-user-{rng.randrange(20)}", feature, key, body)


def _messages(feature: str, tokens: int, rng: random.Random) -> list[dict[str, str]]:
    """System prompt (the same for a feature, so that prefixes repeat), filler up to the length, then the question."""
    system = FEATURES[feature]
    question = rng.choice(HARD if rng.random() < 0.35 else EASY)
    missing = tokens * BYTES_PER_TOKEN - len(system) - len(question)
    shared = " ".join(WORDS * 8)[: max(0, missing // 3)]
    return [
        {"role": "system", "content": system + shared},
        {"role": "user", "content": _filler(missing - len(shared), rng) + question},
    ]


def _filler(length: int, rng: random.Random) -> str:
    if length <= 0:
        return ""
    words = rng.choices(WORDS, k=length // 4 + 1)
    return " ".join(words)[:length] + "\n"
