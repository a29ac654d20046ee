"""A first answer that didn't stand is given after all where the second model fails, unless something was sent."""

from typing import Any

import orjson
import pytest

from contracts.completion import MOST_CARRIED, Completion, FirstAnswer, FirstStands
from contracts.envelope import Work
from contracts.outcomes import Outcome
from inference.engine import CANCELLED, Finish
from inference.first_answer import carried, or_first
from tests.inference.jobs import chat, work_headers

FIRST = FirstAnswer(
    model="small",
    model_version="9",
    engine="synthetic",
    prompt_tokens=7,
    cached_tokens=1,
    completion_tokens=3,
    finish_reason="stop",
)


def second(**fields: Any) -> Work:
    body = orjson.dumps(chat(stream=fields.pop("stream", False)))
    said = {"attempt": 2, "escalated": "unsure", "first": FIRST.model_dump_json(), "first_answer": "{}"} | fields
    return Work.from_headers(work_headers(body, key="acme:k", **said)).model_copy(update={"model": "large"})


def failed(outcome: Outcome = Outcome.FAILED, sequence: int = 0) -> Completion:
    said = {"prompt_tokens": 70, "engine_us": 500, "run": "r2", "worker": "w2", "retry_after_ms": 5}
    return Completion(outcome=outcome, status=503, finished_at=9, sequence=sequence, **said)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED, Outcome.TIMED_OUT])
def test_the_first_answer_is_the_outcome_at_its_own_price(outcome: Outcome) -> None:
    ended, body = or_first(second(), failed(outcome), b"error", again=True)
    assert isinstance(ended, FirstStands)
    assert (ended.outcome, ended.status, ended.retry_after_ms, body) == (Outcome.SUCCEEDED, 200, None, b"{}")
    assert (ended.model, ended.fallback_from, ended.fallback_reason) == ("small", "large", "failed")
    assert FirstAnswer(**ended.model_dump(include=set(FirstAnswer.model_fields))) == FIRST
    assert (ended.run, ended.engine_us) == ("r2", 500), "what the second attempt took of its engine is told once, here"
    headers = dict(ended.to_headers())
    assert (headers["model"], headers["outcome"], headers["status"]) == (b"small", b"succeeded", b"200")


@pytest.mark.parametrize(
    ("work", "ended", "again"),
    [
        (second(), failed(Outcome.SUCCEEDED), False),
        (second(), failed(Outcome.CANCELLED), False),
        (second(first_answer=""), failed(), False),
        (second(first="{"), failed(), False),
        (second(stream=True), failed(), True),
        (second(stream=True), failed(sequence=1), False),
    ],
)
def test_otherwise_it_is_what_it_is(work: Work, ended: Completion, *, again: bool) -> None:
    assert or_first(work, ended, b"body", again=again) == (ended, b"body")


def test_a_stream_of_which_nothing_was_sent_gets_it_too() -> None:
    ended, _ = or_first(second(stream=True), failed(), b"error", again=False)
    assert ended.outcome is Outcome.SUCCEEDED


def test_only_whole_answers_travel_and_no_large_ones() -> None:
    assert carried(Finish("stop", 1, 1), b"{}") == carried(Finish("length", 1, 1), b"{}") == "{}"
    assert carried(Finish(CANCELLED, 1, 1), b"{}") == carried(None, b"{}") == ""
    assert not carried(Finish("stop", 1, 1), b"x" * (MOST_CARRIED + 1))
