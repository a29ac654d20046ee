"""What routing is worth, through the whole running pipeline: `python -m bench.routing_proof QUESTIONS.jsonl`.

Two synthetic models answer right or wrong as the file of labelled questions says. Whole subjects are held back from the
scorer's training; half of their questions are the traffic that `route apply` calibrates on, the other half is asked in
each of five ways. What comes out is counted from the answers and the ledger alone.
"""

import argparse
import asyncio
import hashlib
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev
from typing import Any, NamedTuple, Self
from uuid import uuid4

import clickhouse_connect
import httpx
import orjson

from bench.kafka_load import now_ms
from bench.results import RESULTS, publish
from bench.routing_picture import Spot, picture
from bench.running_stack import benchmark_stack
from contracts.settings import Settings
from millrace.keys import create_key
from millrace.routing.apgr import Point, at_share
from millrace.routing.dataset import Dataset, Labelled, folds
from millrace.routing.evaluation import evaluate
from millrace.routing.policy_topic import Span, make_policy, publish_policy
from millrace.routing.training import train, unseen_needs
from millrace.stack_file import StackFile
from streams.scoring.learned import LearnedScorer, dump

SEED = 1
FOLDS = 8
HELD_BACK = 2  # of these
AT_ONCE = 32
TOKENS = 20  # of each answer
_READ_SECONDS = 2.0  # each process reads a policy within milliseconds
RESAMPLES = 500
WAYS = ("always-small", "always-large", "random-half", "auto", "auto-cascade")
_NAMED = {"always-small": "small", "always-large": "large"}
_ZERO = "step_us = 0\nprefill_us_per_token = 0\ndecode_us_per_sequence = 0"
_POLICY = """
version = "proof"
[models.small]
version = "2.5"
[models.small.synthetic]
{zero}
mean_logprob = -0.30
logprob_spread = 0.5
answers = {{ file = "{file}", field = "weak_correct", wrong_mean_logprob = -0.45 }}
[models.large]
version = "2.5"
quality = 1
[models.large.synthetic]
{zero}
answers = {{ file = "{file}", field = "strong_correct" }}
[[rules]]
name = "random"
split = {{ small = 1, large = 1 }}
features = ["random-half"]
[[rules]]
name = "cascade"
model = "small"
features = ["auto-cascade"]
cascade = {{ model = "large", on = ["unsure"], mean_logprob = -0.36, worst_logprob = -100 }}
[[rules]]
name = "simple"
model = "small"
max_complexity = 0.5
spend_target = 0.5
[[rules]]
name = "complex"
model = "large"
"""
_BILLS = """
SELECT feature, countIf(model = 'large' AND kind = 'usage'), sum(cost_nano), sum(unbilled_nano), countIf(kind = 'usage')
FROM usage WHERE startsWith(idempotency_key, {run:String}) GROUP BY feature
"""


class Bill(NamedTuple):
    """Nano-dollars. `unbilled`: what first attempts that didn't stand would have cost."""

    large: int  # answers of the large model
    billed: int
    unbilled: int


class Split(NamedTuple):
    trained_on: list[Labelled]
    calibrated_on: list[Labelled]
    measured_on: list[Labelled]


def split(data: Dataset, most: int | None) -> Split:
    """By subjects, then by the question's hash."""
    kept = set[str]().union(*folds(data.rows, FOLDS, SEED)[:HELD_BACK])
    unique = {row.prompt: row for row in data.rows if row.subject in kept}.values()
    held = sorted(unique, key=lambda row: hashlib.sha256(row.prompt.encode()).digest())
    halves = held[0::2], held[1::2]
    return Split([row for row in data.rows if row.subject not in kept], *(half[:most] for half in halves))


async def measure(file: Path, data: Dataset, most: int | None) -> None:
    parts = split(data, most)
    scorer = train(Dataset(parts.trained_on, data.sha256), unseen_needs(parts.trained_on, SEED), SEED)
    with tempfile.TemporaryDirectory(prefix="millrace-proof-") as name:
        toml = _POLICY.format(zero=_ZERO, file=file)
        routes = _written(Path(name, "routes.toml"), toml)
        async with benchmark_stack(routes_file=str(routes), requests_per_minute="100000000") as stack:
            run, began = await Run.of(stack), now_ms()
            await run.ask_all("calibration", parts.calibrated_on)
            await run.settled(len(parts.calibrated_on))
            await _apply(run.settings, toml, scorer, began)
            right = {way: await run.ask_all(way, parts.measured_on) for way in WAYS}
            await run.settled(len(parts.calibrated_on) + len(WAYS) * len(parts.measured_on))
            bills = run.bills()
    report(parts, scorer, right, bills)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class Run:
    def __init__(self, stack: StackFile, settings: Settings, http: httpx.AsyncClient) -> None:
        assert stack.query_url is not None, "the one-machine stack has its ledger in itself"
        self.settings = settings
        self._http = http
        self._ledger = clickhouse_connect.get_client(dsn=stack.query_url, database="millrace")
        self._name = uuid4().hex[:8]

    @classmethod
    async def of(cls, stack: StackFile) -> Self:
        """Returns when its key is known."""
        settings = Settings(kafka_bootstrap_servers=stack.kafka)
        key = await create_key(settings, "proof")
        headers = {"Authorization": f"Bearer {key.secret}"}
        http = httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=120)
        async with asyncio.timeout(60):
            while (await http.get("/v1/models")).status_code != httpx.codes.OK:  # noqa: ASYNC110 - it reads keys
                await asyncio.sleep(0.1)
        return cls(stack, settings, http)

    async def ask_all(self, way: str, rows: Sequence[Labelled]) -> list[bool]:
        """Whether each was answered right."""
        room = asyncio.Semaphore(AT_ONCE)

        async def ask(number: int, row: Labelled) -> bool:
            async with room:
                return await self._ask(way, number, row)

        return await asyncio.gather(*(ask(number, row) for number, row in enumerate(rows)))

    async def _ask(self, way: str, number: int, row: Labelled) -> bool:
        message = {"role": "user", "content": row.prompt}
        body = {"model": _NAMED.get(way, "auto"), "messages": [message], "max_tokens": TOKENS}
        headers = {"Millrace-Feature": way, "Idempotency-Key": f"{self._name}-{way}-{number}"}
        answer = await self._http.post("/v1/chat/completions", json=body, headers=headers)
        answer.raise_for_status()
        word: str = answer.json()["choices"][0]["message"]["content"].split()[1]
        assert word in ("right", "wrong"), "the file has every question that is asked"
        return word == "right"

    async def settled(self, requests: int) -> None:
        """Returns when the ledger has them."""
        asked = "SELECT count() FROM usage WHERE kind = 'usage' AND startsWith(idempotency_key, {run:String})"
        run = {"run": self._name}
        async with asyncio.timeout(300):
            while self._ledger.query(asked, parameters=run).result_rows[0][0] < requests:  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    def bills(self) -> dict[str, Bill]:
        rows = self._ledger.query(_BILLS, parameters={"run": self._name}).result_rows
        return {row[0]: Bill(*row[1:4]) for row in rows}


async def _apply(settings: Settings, toml: str, scorer: LearnedScorer, since: int) -> None:
    """Calibrated by the traffic that came since then (UTC ms)."""
    span = Span(since, now_ms())
    policy = await make_policy(settings, toml, "routes.toml", orjson.loads(dump(scorer)), span)
    await publish_policy(settings, policy)
    print("calibrated:", policy.calibration)
    await asyncio.sleep(_READ_SECONDS)


def report(parts: Split, scorer: LearnedScorer, right: dict[str, list[bool]], bills: dict[str, Bill]) -> None:
    rows = parts.measured_on
    found = evaluate(rows, [1 - scorer.score(row.prompt).small_suffices for row in rows])
    small, large = right["always-small"], right["always-large"]
    dearest = bills["always-large"].billed
    lines: list[dict[str, Any]] = []
    for way in WAYS:
        bill, share = bills[way], bills[way].large / len(rows)
        promised = at_share(found.points, share)
        computed = bill.billed + bill.unbilled
        lines.append(
            {
                "way": way,
                "right": sum(right[way]) / len(rows),
                "large": share,
                "cost": bill.billed / dearest,
                "computed": computed / dearest,
                "recovered": _recovered(small, large, right[way]),
                "±": _error(small, large, right[way]),
                "eval promised": promised.recovered,
                "µ$ per right answer": bill.billed / sum(right[way]) / 1000,
                "µ$ with unbilled": computed / sum(right[way]) / 1000,
            }
        )
    title = f"{len(rows):,} questions of held-back subjects, {len(parts.calibrated_on):,} others to calibrate on"
    publish("routing_proof", title, lines)
    curve = [Point(*point) for point in found.points]
    spots = [Spot(line["way"], line["computed"], line["right"]) for line in lines]
    (RESULTS / "routing-proof.svg").write_text(picture(curve, spots))


def _recovered(small: Sequence[bool], large: Sequence[bool], way: Sequence[bool]) -> float:
    """Of the large model's lead over the small one."""
    return (sum(way) - sum(small)) / max(1, sum(large) - sum(small))


def _error(small: Sequence[bool], large: Sequence[bool], way: Sequence[bool]) -> float:
    """One standard error, by questions drawn again."""
    dice = random.Random(SEED)
    found = []
    for _ in range(RESAMPLES):
        drawn = dice.choices(range(len(way)), k=len(way))
        found.append(_recovered(*([answers[n] for n in drawn] for answers in (small, large, way))))
    return stdev(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path, help="JSON lines: domain, prompt, weak_correct, strong_correct")
    parser.add_argument("--most", type=int, help="of the questions of each half")
    given = parser.parse_args()
    asyncio.run(measure(given.questions.resolve(), Dataset.read(given.questions), given.most))
