"""Labelled questions from shadow runs: both models have answered, so each one tells of both.

Nobody has said which answers are right. The large model's is taken as right, unless something is wrong with it in
itself (not the JSON that was asked for, a refusal, cut off). The small one suffices where its answer comes to the same.
Where both are texts that name no final answer, that they differ says nothing: good texts do.
"""

from collections.abc import Mapping
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from contracts.bodies import parse_object
from contracts.errors import InvalidRequest
from contracts.settings import Settings
from millrace.routing.dataset import Labelled
from millrace.routing.from_feedback import NO_FEATURE
from millrace.routing.traffic import Past, past_requests
from streams.scoring.body import asked

_COMPARED = """
SELECT
    concat(tenant, ':', idempotency_key), feature, shadow.model, shadow.shadow_of, shadow.agreement,
    shadow.answer_kind, shadow.doubt, answered.answer_kind, answered.doubt
FROM
(
    SELECT * FROM usage
    WHERE kind = 'shadow' AND outcome = 'succeeded' AND event_time >= fromUnixTimestamp64Milli({since:Int64})
    ORDER BY event_time LIMIT 1 BY tenant, idempotency_key, claim
) AS shadow
INNER JOIN
(
    SELECT tenant, idempotency_key, claim, answer_kind, doubt FROM usage
    WHERE kind = 'usage' AND outcome = 'succeeded' AND event_time >= fromUnixTimestamp64Milli({since:Int64})
) AS answered
USING (tenant, idempotency_key, claim)
"""
_SAYS_NOTHING = {"text", ""}  # kinds of answers: that two of these differ


class Told(NamedTuple):
    """One model's answer, without its text."""

    model: str
    kind: str
    doubt: str


class Compared(NamedTuple):
    feature: str
    shadow: Told
    answered: Told
    agreement: str

    def of(self, best: str) -> tuple[Told, Told] | None:
        """The small model's and the large one's; None when it isn't the large one that is compared with."""
        if self.shadow.model == best != self.answered.model:
            return self.answered, self.shadow
        if self.answered.model == best != self.shadow.model:
            return self.shadow, self.answered
        return None


def comparisons(client: Client, since: int) -> dict[str, Compared]:
    """By request key, of what ended since then (UTC ms)."""
    found: dict[str, Compared] = {}
    for key, feature, model, of, agreement, kind, doubt, its_kind, its_doubt in client.query(
        _COMPARED, parameters={"since": since}
    ).result_rows:
        found[key] = Compared(feature, Told(model, kind, doubt), Told(of, its_kind, its_doubt), agreement)
    return found


async def compared_questions(
    settings: Settings, compared: Mapping[str, Compared], best: str, since: int, until: int
) -> list[Labelled]:
    """The questions that Kafka still has. `best` is the large model: every other one counts as small."""
    rows: list[Labelled] = []

    def take(past: Past) -> None:
        found = compared.get(past.request.request_key)
        if found and (row := label(past.body, found, best)):
            rows.append(row)

    await past_requests(settings, since, until, take)
    return rows


def label(body: bytes, found: Compared, best: str) -> Labelled | None:
    verdict = judge(found, best)
    if verdict is None:
        return None
    try:
        question, _ = asked(parse_object(body))
    except InvalidRequest:
        return None
    weak, strong = verdict
    return Labelled(domain=found.feature or NO_FEATURE, prompt=question, weak_correct=weak, strong_correct=strong)


def judge(found: Compared, best: str) -> tuple[bool, bool] | None:
    """Whether the small model's answer and the large one's are taken as right; None when that can't be told."""
    pair = found.of(best)
    if pair is None:
        return None
    small, large = pair
    if small.doubt or large.doubt:
        return not small.doubt, not large.doubt
    if found.agreement == "same":
        return True, True
    if found.agreement != "other" or {small.kind, large.kind} <= _SAYS_NOTHING:
        return None
    return False, True
