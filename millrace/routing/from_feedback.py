"""Labelled questions from what callers thought of answers.

Feedback tells of the model that answered and of no other. A small model's good answer says that it suffices; its bad
one is taken to call for the large model; a large model's bad one says that neither would do. A large model's good one
says nothing of the small one, and is left out: a split, which sends the small one some of everything, is what tells.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from contracts.bodies import parse_object
from contracts.catalogue import Catalogue
from contracts.errors import ConfigError, InvalidRequest
from contracts.feedback import GOOD
from contracts.prices import PriceTable
from contracts.settings import Settings
from millrace.routing.dataset import Dataset, Labelled
from millrace.routing.traffic import Past, past_requests
from streams.scoring.body import asked

LEAST = 100  # questions
NO_FEATURE = "no feature"
_JUDGED = """
SELECT concat(tenant, ':', idempotency_key), score, feature
FROM judged WHERE event_time >= fromUnixTimestamp64Milli({since:Int64})
"""


class Judgement(NamedTuple):
    score: float
    feature: str


def judgements(client: Client, since: int) -> dict[str, Judgement]:
    """By request key, of what ended since then (UTC ms)."""
    rows = client.query(_JUDGED, parameters={"since": since}).result_rows
    return {key: Judgement(score, feature) for key, score, feature in rows}


async def labelled(
    settings: Settings, judged: Mapping[str, Judgement], best: str, since: int, until: int
) -> list[Labelled]:
    """The questions that Kafka still has. `best` is the large model: every other one counts as small."""
    rows: list[Labelled] = []

    def take(past: Past) -> None:
        judgement = judged.get(past.request.request_key)
        if judgement and (row := label(past.body, past.spent.model == best, judgement)):
            rows.append(row)

    await past_requests(settings, since, until, take)
    return rows


def label(body: bytes, by_best: bool, judgement: Judgement) -> Labelled | None:
    good = judgement.score >= GOOD
    if by_best and good:
        return None
    try:
        question, _ = asked(parse_object(body))
    except InvalidRequest:
        return None
    weak, strong = (False, False) if by_best else (good, True)
    domain = judgement.feature or NO_FEATURE
    return Labelled(domain=domain, prompt=question, weak_correct=weak, strong_correct=strong)


def best_model(catalogue: Catalogue, prices: PriceTable, at: int) -> str:
    """The one of the highest quality; among equals the dearest answer."""
    return by_standing(catalogue, prices, at)[-1]


def by_standing(catalogue: Catalogue, prices: PriceTable, at: int) -> list[str]:
    """The models, the best one last."""

    def standing(model: str) -> tuple[int, int]:
        spec = catalogue.models[model]
        price = prices.find(model, spec.version, at)
        return spec.quality, price.output if price else 0

    return sorted(catalogue.models, key=standing)


def joined(rows: list[Labelled], file: Dataset | None) -> Dataset:
    """With the questions of a file, if there is one. Raises ConfigError when there is too little to learn from."""
    rows = sorted(rows, key=lambda row: (row.subject, row.prompt))
    whole = [*(file.rows if file else ()), *rows]
    if len(whole) < LEAST:
        raise ConfigError(
            f"{len(rows)} judged or compared questions are still in Kafka, and it takes {LEAST} to learn from: gather "
            "more, or give a FILE of labelled questions as well."
        )
    if len({row.subject for row in whole}) < 2:
        raise ConfigError("All questions are of one feature: it takes two, to measure on what was left out.")
    if not any(row.gain > 0 for row in whole):
        raise ConfigError("No small model's answer was judged bad: there is nothing to tell apart.")
    return Dataset(whole, _sha256(rows, file))


def _sha256(rows: Iterable[Labelled], file: Dataset | None) -> str:
    digest = hashlib.sha256((file.sha256 if file else "").encode())
    for row in rows:
        digest.update(row.model_dump_json().encode() + b"\n")
    return digest.hexdigest()
