"""The learned scorer: what it reads, and that the same question always gets the same score."""

import os
import subprocess
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.bodies import parse_object
from streams.complexity import PRIOR, WEIGHTS, learned_complexity, probability, scorer
from streams.scoring.features import choices, open_question, opening, terms
from streams.scoring.learned import LearnedScorer, Measure, dump, shipped_scorer, weigh_measures
from streams.scoring.question import HEAD, TAIL, read_question
from tests.support.effort import effort

CHOICES = "Which planet is largest?\nA. Mars\nB. Jupiter, a gas giant\nC. Earth\nD. Not listed\nAnswer:"
WORD_PROBLEM = (
    "Ann, Ben and Cleo share 120 apples. Ann takes twice as many as Ben, and Ben takes 5 more than Cleo. After lunch, "
    "Dora brings 30 more, and Ann gives half of hers to Emil. If Emil eats 3 a day, how many days do they last?"
)


def body(content: str, **fields: object) -> bytes:
    return orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": content}], **fields})


def test_listed_choices_are_told_from_the_question() -> None:
    question = read_question(CHOICES)
    assert question.stem == "Which planet is largest?\n"
    assert question.choices == ["Mars", "Jupiter, a gas giant", "Earth", "Not listed"]
    assert question.words == ["Which", "planet", "is", "largest"]


@pytest.mark.parametrize("prompt", ["", "A. Smith wrote this", "Hello", "1. one\n2. two"])
def test_what_lists_no_choices_has_none(prompt: str) -> None:
    assert read_question(prompt) == (prompt, [], read_question(prompt).words)


def test_a_long_prompt_is_read_at_both_ends() -> None:
    question = read_question("begin " + "filler " * 9_000 + "end")
    assert (question.words[0], question.words[-1]) == ("begin", "end")
    assert len(question.stem) == HEAD + TAIL + 1


def test_a_question_has_choices_or_is_open() -> None:
    listed, free = read_question(CHOICES), read_question(WORD_PROBLEM)
    assert choices(listed)
    assert open_question(free)
    assert not choices(free)
    assert not open_question(listed)


def test_features_have_names_that_a_person_can_check() -> None:
    found = open_question(read_question("Ann has 3 apples, Ben twice as many. How many?"))
    counts = {name: round(2.718281828**value - 1) for name, value in found.items()}
    expected = {"names": 3, "numbers": 1, "largest number": 3, "commas": 1, "sentences": 2, "relations": 3}
    assert {name: counts[name] for name in expected} == expected
    assert choices(read_question(CHOICES))["negations"] > 0
    assert terms(["a", "b", "a"])["a b"] == 1
    assert opening(["w"] * 9)["w w w"] == 3


def test_the_artefact_loads_is_small_and_writes_itself_the_same() -> None:
    scorer = shipped_scorer()
    assert scorer.trained_on.subjects == 29
    assert len(dump(scorer)) < 2_000_000
    assert LearnedScorer.load(dump(scorer)) == scorer
    with pytest.raises(ValidationError):
        LearnedScorer.load(b'{"bias": 1}')


def test_a_scorers_version_names_its_artefact_to_the_bit() -> None:
    shipped = shipped_scorer()
    other = shipped.model_copy(update={"bias": shipped.bias + 1})
    assert scorer("learned").version == scorer("learned", LearnedScorer.load(dump(shipped))).version
    assert scorer("learned").version != scorer("learned", other).version
    fields = parse_object(body(CHOICES))
    assert scorer("learned", other).score(fields, 1, 0).score > scorer("learned").score(fields, 1, 0).score


@given(st.text(max_size=400))
def test_any_text_gets_one_probability(text: str) -> None:
    first, again = shipped_scorer().score(text), shipped_scorer().score(text)
    assert first == again
    assert 0 < first.small_suffices < 1


def test_another_process_scores_the_same() -> None:
    code = "import sys; from streams.scoring.learned import shipped_scorer as s; print(repr(s().score(sys.argv[1])))"
    command, here = [sys.executable, "-c", code, CHOICES], f"{shipped_scorer().score(CHOICES)!r}\n".encode()
    for seed in ("1", "2"):
        assert subprocess.check_output(command, env={**os.environ, "PYTHONHASHSEED": seed}) == here


def test_more_to_work_out_needs_more() -> None:
    score = shipped_scorer().score
    assert score("What is 2 + 2?").small_suffices > score(WORD_PROBLEM).small_suffices
    assert score("Where is my order?").small_suffices > 0.9


def test_one_odd_feature_does_not_decide_alone() -> None:
    measure = {"length": Measure(mean=1.0, deviation=0.5, weight=0.1)}
    assert weigh_measures(measure, {"length": 1e9}) == {"length": pytest.approx(0.4)}
    assert weigh_measures(measure, {}) == {}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("tools", body("Weather?", tools=[{"type": "function", "function": {"name": "weather"}}])),
        ("schema", body("Name?", response_format={"type": "json_schema", "json_schema": {}})),
        ("code", body("Why does this fail? ```def f(x):\n    return x\n```")),
        ("multi_step", body("Compare both plans step by step, then justify")),
    ],
)
def test_what_no_exam_teaches_is_a_prior(name: str, asked: bytes) -> None:
    added = learned_complexity(parse_object(asked), 10).features[name]
    assert 0 < added <= round(PRIOR * WEIGHTS[name], 4)


def test_complexity_is_what_its_features_say() -> None:
    found = learned_complexity(parse_object(body(CHOICES)), 30)
    assert found.score == round(probability(sum(found.features.values())), 4)
    assert found.score == pytest.approx(1 - shipped_scorer().score(CHOICES).small_suffices, abs=1e-4)


@pytest.mark.parametrize("unit", ["a", "A. ", "\nA. x", "1,", "1.", ". ", "Answer:", "\n", "é", "a b ", "first "])
def test_a_prompt_made_to_be_slow_costs_hardly_more_than_another(unit: str) -> None:
    made, usual = [parse_object(body(part * (1_000_000 // len(part)))) for part in (unit, CHOICES)]
    assert effort(lambda: learned_complexity(made, 1)) < 20 * effort(lambda: learned_complexity(usual, 1))
