"""From what callers thought of answers to questions with labels."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from contracts.catalogue import load_catalogue
from contracts.errors import ConfigError
from contracts.prices import load_prices
from contracts.settings import Settings
from millrace.cli import app
from millrace.routing.dataset import Dataset, Labelled
from millrace.routing.from_feedback import LEAST, Judgement, best_model, joined, label, labelled
from millrace.routing.training import train, unseen_needs
from tests.support.traffic import EASY, HARD, run_through

SAMPLE = Path(__file__).parents[1] / "data" / "routing_sample.jsonl"
BODY = orjson.dumps({"messages": [{"role": "user", "content": "Why?"}]})


@pytest.mark.parametrize(
    ("score", "by_best", "expected"),
    [(1.0, False, (True, True)), (0.2, False, (False, True)), (0.2, True, (False, False)), (0.5, True, None)],
)
def test_what_a_judgement_tells(score: float, by_best: bool, expected: tuple[bool, bool] | None) -> None:
    row = label(BODY, by_best, Judgement(score, "faq"))
    assert (row and (row.weak, row.strong)) == expected
    assert row is None or (row.subject, row.prompt) == ("faq", "Why?")


def test_the_best_model_goes_by_quality_then_price() -> None:
    catalogue = load_catalogue()
    assert best_model(catalogue, load_prices(), 1_795_000_000_000) == "large"
    plain = {name: spec.model_copy(update={"quality": 0}) for name, spec in catalogue.models.items()}
    assert best_model(catalogue.model_copy(update={"models": plain}), load_prices(), 1_795_000_000_000) == "large"


def judged(count: int, subject: str = "faq", *, weak: bool = False) -> list[Labelled]:
    return [
        Labelled(domain=subject, prompt=f"Question {number}?", weak_correct=weak, strong_correct=True)
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (judged(LEAST - 1), "it takes 100"),
        (judged(LEAST), "of one feature"),
        (judged(LEAST, weak=True) + judged(2, "chat", weak=True), "nothing to tell apart"),
    ],
)
def test_too_little_to_learn_from_is_said(rows: list[Labelled], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        joined(rows, None)


def test_a_scorer_is_learned_from_feedback_alone_and_with_a_file() -> None:
    easy, hard = judged(60, "faq", weak=True), judged(60, "maths")
    alone = joined(easy + hard, None)
    assert alone.sha256 == joined(hard + easy, None).sha256
    train(alone, unseen_needs(alone.rows, 1), 1)
    both = joined(easy + hard, Dataset.read(SAMPLE))
    assert len(both.rows) == 120 + 240
    assert both.sha256 != alone.sha256


@pytest.mark.broker
async def test_questions_come_from_the_log(settings: Settings) -> None:
    await run_through(settings, 10)
    thought = {f"acme:k{number}": Judgement(0.0, "") for number in (2, 3, 99)}
    rows = await labelled(settings, thought, "large", 0, 2**53)
    assert sorted(row.prompt for row in rows) == [HARD, EASY]
    assert all((row.weak, row.strong, row.subject) == (False, True, "no feature") for row in rows)


def test_train_needs_something_to_learn_from(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["route", "train", "-o", str(tmp_path / "scorer.json")])
    assert isinstance(result.exception, ConfigError)
