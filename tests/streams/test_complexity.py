import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.bodies import describe, parse_object
from streams.complexity import WEIGHTS, Complexity, complexity
from tests.support.effort import effort

USUAL = "What is the capital of France, and why did the king leave it in 1789? "
SNIPPET = "```python\ndef f(x):\n    return x\n```"


def chat(*contents: str, **fields: object) -> bytes:
    messages = [{"role": "user", "content": content} for content in contents]
    return orjson.dumps({"model": "auto", "messages": messages, **fields})


def score_of(body: bytes) -> Complexity:
    return complexity(parse_object(body), describe(body).digest.prompt_estimate)


def test_small_talk_is_simple() -> None:
    assert score_of(chat("Hello, how are you today?")).score < 0.05


@pytest.mark.parametrize(
    ("feature", "body"),
    [
        ("length", chat("word " * 2000)),
        ("code", chat(f"Why does this fail? {SNIPPET}")),
        ("maths", chat("Solve the equation x^2 - 5x + 6 = 0 and find the derivative")),
        ("multi_step", chat("Compare the two plans step by step, then justify your choice in detail")),
        ("tools", chat("Weather?", tools=[{"type": "function", "function": {"name": "weather"}}])),
        ("schema", chat("Name?", response_format={"type": "json_schema", "json_schema": {}})),
        ("turns", chat("a", "b", "c", "d", "e")),
    ],
)
def test_each_feature_is_seen_and_said(feature: str, body: bytes) -> None:
    features = score_of(body).features
    assert features[feature] >= 0.05
    assert features[feature] == max(features.values())


def test_a_hard_request_scores_higher_than_an_easy_one() -> None:
    hard = chat(f"Prove that this algorithm is optimal, first by induction, then compare it with: {SNIPPET}")
    assert score_of(hard).score > 0.35 > score_of(chat("What is the capital of France?")).score


def test_a_text_completion_is_read_too() -> None:
    assert score_of(orjson.dumps({"model": "auto", "prompt": SNIPPET})).features["code"] > 0


def test_parts_of_a_message_are_read() -> None:
    parts = [{"type": "text", "text": SNIPPET}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": parts}]})
    assert score_of(body).features["code"] > 0


@given(st.text(max_size=300), st.integers(0, 10**7))
def test_the_score_is_the_sum_of_what_is_said_and_within_bounds(content: str, tokens: int) -> None:
    found = complexity(parse_object(chat(content)), tokens)
    assert 0 <= found.score <= 1
    assert found.score == round(min(1.0, sum(found.features.values())), 4)
    assert all(0 <= value <= WEIGHTS[name] for name, value in found.features.items())


NAMES = st.sampled_from(["role", "user", "content", "text", "type"])
ODD = st.recursive(
    st.none() | st.integers(-9, 9) | NAMES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner)
)


@given(ODD)
def test_odd_bodies_do_no_harm(odd: object) -> None:
    complexity({"messages": odd, "tools": odd, "response_format": odd, "prompt": odd}, 1)


def test_an_earlier_question_can_be_scored() -> None:
    fields = parse_object(chat("Hello", SNIPPET, "Thanks"))
    assert complexity(fields, 10, 1).features["code"] > complexity(fields, 10).features["code"]
    assert complexity(fields, 10, 7).features["turns"] == 0


@pytest.mark.parametrize("unit", ["a", " ", "\n", "1", "1 ", "SELECT ", "first ", "$x", "- ", "()", "{", "```", "\t\n"])
def test_a_prompt_made_to_be_slow_costs_hardly_more_than_another(unit: str) -> None:
    made, usual = [parse_object(chat(part * (1_000_000 // len(part)))) for part in (unit, USUAL)]
    assert effort(lambda: complexity(made, 1)) < 20 * effort(lambda: complexity(usual, 1))
