"""Training and judging the router's scorer, and the commands that do it."""

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from contracts.catalogue import Catalogue, load_catalogue
from contracts.errors import ConfigError, InvalidRequest
from contracts.policy_record import with_threshold
from contracts.prices import load_prices
from millrace.cli import app
from millrace.routing.apgr import apgr, at_share, curve
from millrace.routing.calibration import fit_logistic
from millrace.routing.dataset import Dataset, Labelled, folds, subject_weights
from millrace.routing.evaluation import evaluate
from millrace.routing.explanation import Explanation, as_asked, explain
from millrace.routing.plot import svg
from millrace.routing.ridge import ridge
from millrace.routing.view import show_explanation
from millrace.routing.worth import worth
from streams.route import Router
from streams.scoring.learned import shipped_scorer

SAMPLE = Path(__file__).parents[1] / "data" / "routing_sample.jsonl"
AT = 1_795_000_000_000


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset.read(SAMPLE)


def test_apgr_of_a_perfect_a_blind_and_a_wrong_ranking() -> None:
    gains = [1, 0, 0, 0]
    assert apgr(curve([4, 3, 2, 1], gains, 0.5)) == pytest.approx(0.875)
    assert apgr(curve([0, 0, 0, 0], gains, 0.5)) == pytest.approx(0.5)
    assert apgr(curve([1, 2, 3, 4], gains, 0.5)) == pytest.approx(0.125)


def test_a_curve_goes_from_weak_to_strong() -> None:
    points = curve([3, 2, 1, 0], [1, -1, 1, 0], 0.5)
    assert points[0] == (0.0, 0.5, 0.0)
    assert points[-1] == (1.0, 0.75, 1.0)
    assert at_share(points, 0.125).quality == pytest.approx(0.625)


def test_a_curve_by_cost_asks_the_strong_model_for_as_much_as_a_share_of_it_buys() -> None:
    points = curve([4, 3, 2, 1], [1, 0, 1, 0], 0.5, [10, 70, 10, 10])
    assert [round(point.strong_share, 3) for point in points] == [0, 0.1, 0.8, 0.9, 1]


def test_for_its_price_a_dollar_buys_the_cheap_questions_first() -> None:
    """Equally hard, and the long ones gain nothing: each costs what ten short ones do."""
    long, short = ({"domain": "d", "prompt": "x" * size, "weak_correct": False} for size in (8000, 400))
    rows = [Labelled(**long, strong_correct=False)] * 20 + [Labelled(**short, strong_correct=True)] * 20
    prices = [load_prices().find(model, "2.5", AT) for model in ("small", "large")]
    found = worth(rows, [0.5] * 40, *prices)
    assert [(line.answer_tokens, line.spend) for line in found][:4] == [(20, 0.3), (20, 0.5), (20, 0.7), (100, 0.3)]
    assert all(line.complexity == pytest.approx(line.random) for line in found)
    assert all(line.for_its_price == 1 for line in found if line.answer_tokens == 20)
    assert worth(rows, [0.5] * 40, *reversed(prices)) == []


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    with pytest.raises(ValueError, match="no better"):
        curve([1, 2], [0, 0], 1.0)


def test_ridge_finds_what_calculus_finds() -> None:
    rows = [[(0, 1.0)], [(0, 2.0)], [(0, 4.0)]]
    targets, weights, penalty = [1.0, 3.0, 4.0], [1.0, 2.0, 1.0], 0.5
    mean_x, mean_y = 9 / 4, 11 / 4
    above = sum(w * (r[0][1] - mean_x) * (y - mean_y) for r, y, w in zip(rows, targets, weights, strict=True))
    below = sum(w * (r[0][1] - mean_x) ** 2 for r, w in zip(rows, weights, strict=True)) + penalty
    assert ridge(rows, targets, weights, penalty) == [pytest.approx(above / below)]
    assert ridge([[], []], [1, 0], [1, 1], 1.0) == []


def test_calibration_gives_back_the_odds_that_made_the_outcomes() -> None:
    rng = random.Random(3)
    scores = [rng.uniform(-2, 2) for _ in range(4000)]
    happened = [rng.random() < 1 / (1 + 2.718281828 ** -(1.5 * s - 1)) for s in scores]
    slope, bias = fit_logistic(scores, happened)
    assert slope == pytest.approx(1.5, abs=0.2)
    assert bias == pytest.approx(-1, abs=0.15)


def test_folds_leave_whole_subjects_out_and_every_subject_once(data: Dataset) -> None:
    dealt = folds(data.rows, 5, seed=1)
    assert sorted(name for fold in dealt for name in fold) == sorted({row.subject for row in data.rows})
    assert dealt == folds(data.rows, 5, seed=1)
    assert sum(subject_weights(data.rows)) == pytest.approx(len(data.rows))


def test_the_shipped_scorer_orders_questions_that_it_learned(data: Dataset) -> None:
    """A floor against a broken artefact. What it is worth on unseen subjects is in docs/routing.md."""
    found = evaluate(data.rows, [1 - shipped_scorer().score(row.prompt).small_suffices for row in data.rows])
    assert found.apgr > 0.70
    assert [line.questions for line in found.subjects] == [20] * 12
    assert "<polyline" in svg(found.points, found.apgr)


def test_training_gives_the_same_bytes_and_a_scorer_that_works(tmp_path: Path) -> None:
    outputs = [tmp_path / "1.json", tmp_path / "2.json"]
    for seed, output in enumerate(outputs):
        command = [sys.executable, "-m", "millrace", "route", "train", str(SAMPLE), "-o", str(output)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True, capture_output=True)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    shown = CliRunner().invoke(app, ["route", "eval", str(SAMPLE), "--scorer", str(outputs[0]), "--format", "json"])
    assert orjson.loads(shown.stdout)["apgr"] > 0.6


def test_eval_shows_a_table_and_draws_the_curve(tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    shown = CliRunner().invoke(app, ["route", "eval", str(SAMPLE), "--subject", "gsm8k", "--svg", str(picture)])
    assert shown.exit_code == 0
    assert "20 questions" in shown.stdout
    assert "for its price" in shown.stdout
    assert picture.read_text().startswith("<svg")


def test_eval_draws_a_png_or_says_what_that_takes(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    result = CliRunner().invoke(app, ["route", "eval", str(SAMPLE), "--png", str(picture)])
    if find_spec("matplotlib"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        assert isinstance(result.exception, ConfigError)


def test_what_is_no_scorer_and_what_is_no_subject_are_said(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for extra in (["--scorer", str(tmp_path / "x.json")], ["--subject", "alchemy"]):
        result = CliRunner().invoke(app, ["route", "eval", str(SAMPLE), *extra])
        assert isinstance(result.exception, ConfigError)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no questions"), ('{"domain": "a"}', "line 1: prompt"), ("{", "line 1")],
)
def test_a_file_that_doesnt_fit_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        Dataset.read(path)


def explained(prompt: str, catalogue: Catalogue, max_tokens: int | None = None) -> Explanation:
    return explain(as_asked(prompt, AT, max_tokens), Router(catalogue, load_prices()), load_prices())


def test_an_explanation_is_the_decision_itself() -> None:
    found = explained("Where is my order?", load_catalogue(), 100)
    assert (found.model, found.rule, found.scorer) == ("small", "simple", "learned")
    assert found.score < 0.4
    assert (found.costs["small"] or 0) < (found.costs["large"] or 0)
    with pytest.raises(InvalidRequest, match="No model takes"):
        explained("word " * 200_000, load_catalogue())


def test_an_explanation_has_the_requests_own_threshold() -> None:
    """The reference is what a prompt of ten tokens with an answer of a hundred costs more on the large model."""
    ten = explained("Where is my order?", with_threshold(load_catalogue(), "simple", 0.4, 1), 100)
    assert ten.own is not None
    catalogue = with_threshold(load_catalogue(), "simple", 0.4, ten.own.extra_nano)
    same, longer = (explained("Where is my order?", catalogue, tokens) for tokens in (100, 200))
    assert same.own == ("simple", 0.4, ten.own.extra_nano)
    assert longer.own is not None
    assert longer.own.max_complexity > 0.7
    assert orjson.loads(orjson.dumps(longer.document()))["own"]["rule"] == "simple"
    console = Console(width=160, record=True, file=StringIO())
    show_explanation(longer, catalogue, console)
    text = console.export_text()
    assert f"complexity ≤ 0.4 at {ten.own.extra_nano / 1e9:.9f} dollars extra" in text
    assert f"for this request: complexity ≤ {longer.own.max_complexity:.4g}" in text
    assert explained("Where is my order?", load_catalogue()).own is None


def test_the_transparent_scorer_can_be_chosen() -> None:
    found = explained("Solve x^2 = 4 step by step", load_catalogue().model_copy(update={"scorer": "features"}))
    assert found.score == pytest.approx(sum(found.features.values()))
    assert set(found.features) >= {"maths", "multi_step"}


def test_explain_prints_what_weighs_and_what_it_costs() -> None:
    shown = CliRunner().invoke(app, ["route", "explain", "Prove it step by step"])
    assert shown.exit_code == 0
    for expected in ("multi_step", "base rate", "rule complex", "dollars"):
        assert expected in shown.stdout
