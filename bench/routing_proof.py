"""What routing is worth, through the whole running pipeline: `python -m bench.routing_proof QUESTIONS.jsonl`.

Two synthetic models answer right or wrong as the file of labelled questions says. Subjects are dealt into folds, each
held back from the training of a scorer of its own; half of its questions are the traffic that `route apply` calibrates
on, the other half is asked in each of five ways. What comes out is counted from the answers and the ledger alone.
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

from bench.results import RESULTS, publish
from bench.routing_picture import Spot, picture
from bench.running_stack import benchmark_stack
from contracts.clock import now_ms
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.tokens import estimate_tokens
from millrace.keys import create_key
from millrace.routing import apgr
from millrace.routing.apgr import Point, at_share
from millrace.routing.dataset import Dataset, Labelled, folds
from millrace.routing.policy_topic import Span, make_policy, publish_policy
from millrace.routing.training import train, unseen_needs
from millrace.stack_file import StackFile
from streams.policy.case import relative
from streams.scoring.learned import LearnedScorer, dump

SEED = 1
FOLDS = 8
AT_ONCE = 32
TOKENS = 20  # of each answer
_READ_SECONDS = 2.0  # each process reads a policy within milliseconds
RESAMPLES = 500
WAYS = ("always-small", "always-large", "random-half", "auto", "auto-cascade")
_NAMED = {"always-small": "small", "always-large": "large"}
_KV_TOKENS = 40_000  # too few to keep the prompts from one way of asking to the next, which would make that one cheaper
_ZERO = f"step_us = 0\nprefill_us_per_token = 0\ndecode_us_per_sequence = 0\nkv_tokens = {_KV_TOKENS}"
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
SELECT feature, countIf(model = 'large' AND kind = 'usage'), sum(cost_nano), sum(unbilled_nano)
FROM usage WHERE startsWith(idempotency_key, {run:String}) GROUP BY feature
"""


class Bill(NamedTuple):
    """Nano-dollars. `unbilled`: what first attempts that didn't stand would have cost."""

    large: int  # answers of the large model
    billed: int
    unbilled: int


class Fold(NamedTuple):
    scorer: LearnedScorer  # that has seen none of its subjects
    calibrated_on: list[Labelled]
    measured_on: list[Labelled]
    curve: list[Point]  # what `route eval` promises of those, at each share of the large model's extra cost

    @classmethod
    def of(cls, subjects: set[str], data: Dataset, most: int | None) -> Self:
        """Halves by the questions' hashes."""
        trained_on = [row for row in data.rows if row.subject not in subjects]
        scorer = train(Dataset(trained_on, data.sha256), unseen_needs(trained_on, SEED), SEED)
        unique = {row.prompt: row for row in data.rows if row.subject in subjects}.values()
        held = sorted(unique, key=lambda row: hashlib.sha256(row.prompt.encode()).digest())
        calibrated_on, measured_on = held[0::2][:most], held[1::2][:most]
        return cls(scorer, calibrated_on, measured_on, _promises(measured_on, scorer))


def _promises(rows: list[Labelled], scorer: LearnedScorer) -> list[Point]:
    """Ranked as a `spend_target` does: by complexity, for its price."""
    small, large = (load_prices().find(model, "2.5", now_ms()) for model in ("small", "large"))
    assert small is not None
    assert large is not None
    prompts = [estimate_tokens(row.prompt) for row in rows]
    extras = [large.cost(tokens, 0, TOKENS) - small.cost(tokens, 0, TOKENS) for tokens in prompts]
    needs = [
        relative(1 - scorer.score(row.prompt).small_suffices, extra, 1) for row, extra in zip(rows, extras, strict=True)
    ]
    return apgr.curve(needs, [row.gain for row in rows], sum(row.weak for row in rows) / len(rows), extras)


class Outcome(NamedTuple):
    """Of one way of asking a fold."""

    right: list[bool]
    bill: Bill


async def measure(file: Path, data: Dataset, most: int | None) -> None:
    parts = [Fold.of(subjects, data, most) for subjects in folds(data.rows, FOLDS, SEED)]
    with tempfile.TemporaryDirectory(prefix="millrace-proof-") as name:
        toml = _POLICY.format(zero=_ZERO, file=file)
        routes = _written(Path(name, "routes.toml"), toml)
        async with benchmark_stack(routes_file=str(routes), requests_per_minute="100000000") as stack:
            run = await Run.of(stack)
            outcomes = [await run.play(number, fold, toml) for number, fold in enumerate(parts)]
    report(parts, outcomes)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class Run:
    def __init__(self, stack: StackFile, settings: Settings, http: httpx.AsyncClient) -> None:
        assert stack.query_url is not None, "the one-machine stack has its ledger in itself"
        self.settings = settings
        self._http = http
        self._ledger = clickhouse_connect.get_client(dsn=stack.query_url, database="millrace")
        self._name = self._prefix = uuid4().hex[:8]

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

    async def play(self, number: int, fold: Fold, toml: str) -> dict[str, Outcome]:
        """By way of asking. `toml` is the policy, without its scorer and threshold."""
        self._prefix, began = f"{self._name}-{number}-", now_ms()
        await self.ask_all("calibration", fold.calibrated_on)
        await self._settled(len(fold.calibrated_on))
        await _apply(self.settings, toml, fold.scorer, began)
        right = {way: await self.ask_all(way, fold.measured_on) for way in WAYS}
        await self._settled(len(fold.calibrated_on) + len(WAYS) * len(fold.measured_on))
        bills = {row[0]: Bill(*row[1:]) for row in self._ledger.query(_BILLS, parameters=self._run).result_rows}
        return {way: Outcome(right[way], bills[way]) for way in WAYS}

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
        headers = {"Millrace-Feature": way, "Idempotency-Key": f"{self._prefix}{way}-{number}"}
        answer = await self._http.post("/v1/chat/completions", json=body, headers=headers)
        answer.raise_for_status()
        word: str = answer.json()["choices"][0]["message"]["content"].split()[1]
        assert word in ("right", "wrong"), "the file has every question that is asked"
        return word == "right"

    async def _settled(self, requests: int) -> None:
        """Returns when the ledger has them."""
        asked = "SELECT count() FROM usage WHERE kind = 'usage' AND startsWith(idempotency_key, {run:String})"
        async with asyncio.timeout(300):
            while self._ledger.query(asked, parameters=self._run).result_rows[0][0] < requests:  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    @property
    def _run(self) -> dict[str, str]:
        return {"run": self._prefix}


async def _apply(settings: Settings, toml: str, scorer: LearnedScorer, since: int) -> None:
    """Calibrated by the traffic that came since then (UTC ms)."""
    span = Span(since, now_ms())
    policy = await make_policy(settings, toml, "routes.toml", orjson.loads(dump(scorer)), span)
    await publish_policy(settings, policy)
    print("calibrated:", policy.calibration)
    await asyncio.sleep(_READ_SECONDS)


def report(parts: list[Fold], outcomes: list[dict[str, Outcome]]) -> None:
    small, large = (_right(outcomes, f"always-{model}") for model in ("small", "large"))
    dearest = sum(one["always-large"].bill.billed for one in outcomes)
    lines: list[dict[str, Any]] = []
    for way in WAYS:
        right, bills = _right(outcomes, way), [one[way].bill for one in outcomes]
        billed = sum(bill.billed for bill in bills)
        computed = billed + sum(bill.unbilled for bill in bills)
        lines.append(
            {
                "way": way,
                "right": sum(right) / len(right),
                "large": sum(bill.large for bill in bills) / len(right),
                "cost": billed / dearest,
                "computed": computed / dearest,
                "recovered": _recovered(small, large, right),
                "±": _error(small, large, right),
                "eval promised": _promised(parts, outcomes, way),
                "µ$ per right answer": billed / sum(right) / 1000,
                "µ$ with unbilled": computed / sum(right) / 1000,
            }
        )
    asked = sum(len(fold.calibrated_on) for fold in parts)
    publish("routing_proof", f"{len(small):,} questions of unseen subjects, {asked:,} others to calibrate on", lines)
    spots = [Spot(line["way"], line["computed"], line["right"]) for line in lines]
    (RESULTS / "routing-proof.svg").write_text(picture(_curve(parts), spots))


def _right(outcomes: list[dict[str, Outcome]], way: str) -> list[bool]:
    return [right for one in outcomes for right in one[way].right]


def _promised(parts: list[Fold], outcomes: list[dict[str, Outcome]], way: str) -> float:
    """Recovered, at what was computed in each fold."""
    gaps = [sum(row.gain for row in fold.measured_on) for fold in parts]
    found = [at_share(fold.curve, _share(one, way)).recovered for fold, one in zip(parts, outcomes, strict=True)]
    return sum(gap * recovered for gap, recovered in zip(gaps, found, strict=True)) / sum(gaps)


def _share(outcomes: dict[str, Outcome], way: str) -> float:
    """Of what the large model costs more."""
    least, most, cost = (
        bill.billed + bill.unbilled for bill in (outcomes[one].bill for one in ("always-small", "always-large", way))
    )
    return (cost - least) / (most - least)


def _curve(parts: list[Fold]) -> list[Point]:
    """Of all folds, each at the same share."""
    asked = sum(len(fold.measured_on) for fold in parts)
    return [
        Point(share, sum(len(fold.measured_on) * at_share(fold.curve, share).quality for fold in parts) / asked, 0)
        for share in (step / 20 for step in range(21))
    ]


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
    parser.add_argument("--most", type=int, help="of the questions of each half of a fold")
    given = parser.parse_args()
    asyncio.run(measure(given.questions.resolve(), Dataset.read(given.questions), given.most))
