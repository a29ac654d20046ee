"""Whether a first answer stands: by its tokens, its form, its words and its end."""

from typing import Any

import orjson
import pytest

from contracts.cascade import Cascade
from inference.answer import Answer
from inference.engine import Finish, Step
from inference.gate import Gate
from tests.inference.jobs import chat

CASCADE = Cascade(model="large", mean_logprob=-0.5, worst_logprob=-2.0, stretch_tokens=4)
SURE, UNSURE = -0.1, -3.0


def answer(text: str = "", reason: str | None = "stop", **extra: Any) -> Answer:
    finish = Finish(reason, 5, 5) if reason else None
    whole = Answer()
    whole.add(Step(text, 5, finish, extra=extra or None))
    return whole


def gate(*logprobs: float, cascade: Cascade = CASCADE, **body: Any) -> Gate:
    made = Gate(cascade, chat(**body))
    made.add(Step("", len(logprobs), token_logprobs=logprobs))
    return made


def test_a_sure_answer_stands() -> None:
    assert gate(*[SURE] * 20).doubt(answer("Mills grind.")) is None


def test_without_log_probabilities_the_rest_decides() -> None:
    assert gate().doubt(answer("Mills grind.")) is None
    assert gate().doubt(answer("Mills gri", "length")) == "length"


def test_the_mean_is_over_all_tokens() -> None:
    assert gate(*[-0.6] * 20).doubt(answer("Mills grind.")) == "unsure"
    assert gate(*[-0.6] * 20, cascade=CASCADE.model_copy(update={"mean_logprob": None})).doubt(answer("x")) is None


@pytest.mark.parametrize("place", [0, 7, 16])
def test_one_bad_stretch_is_enough_wherever_it_is(place: int) -> None:
    logprobs = [SURE] * 200
    logprobs[place : place + 4] = [UNSURE] * 4
    weighed = gate(*logprobs)
    assert weighed.lost()
    assert weighed.doubt(answer("Mills grind.")) == "unsure"


def test_a_bad_token_alone_is_no_bad_stretch() -> None:
    assert not gate(*[SURE] * 100, UNSURE, *[SURE] * 100).lost()


def test_an_answer_that_is_shorter_than_a_stretch_is_one() -> None:
    cascade = CASCADE.model_copy(update={"mean_logprob": None})
    assert gate(-2.5, cascade=cascade).doubt(answer("B")) == "unsure"
    assert not gate(-2.5, cascade=cascade).lost(), "more tokens may follow"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with this request.",
        "Sorry, I cannot provide medical advice.",
        "I cannot answer that.",
        "As an AI language model, I am unable to access the internet.",
        "Unfortunately, I am not able to complete this task.",
        "I apologize, but I will not write that.",
    ],
)
def test_a_refusal_doesnt_stand(text: str) -> None:
    assert gate(SURE).doubt(answer(text)) == "refusal"


@pytest.mark.parametrize(
    "text", ["I can't wait to tell you!", "Sorry is a word.", "You can't help that.", "The answer: I cannot say 'B'."]
)
def test_what_only_sounds_like_one_stands(text: str) -> None:
    assert gate(SURE).doubt(answer(text)) is None


def test_the_models_own_word_for_a_refusal_counts() -> None:
    assert gate(SURE).doubt(answer("", refusal="No.")) == "refusal"
    assert gate(SURE).doubt(answer("x", "content_filter")) == "refusal"


ODD = {"type": "json_schema", "json_schema": {"schema": {"required": [{}, 7]}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "required": ["b"]}}}


@pytest.mark.parametrize(
    ("response_format", "text", "stands"),
    [
        ({"type": "json_object"}, '{"a": 1}', True),
        ({"type": "json_object"}, '{"a": 1', False),
        ({"type": "json_object"}, "[1]", False),
        ({"type": "text"}, "no JSON", True),
        (SCHEMA, '{"b": 1}', True),
        (SCHEMA, '{"a": 1}', False),
        (ODD, '{"a": 1}', True),
    ],
)
def test_what_was_to_be_json_must_be(response_format: dict[str, Any], text: str, stands: bool) -> None:
    assert gate(SURE, response_format=response_format).doubt(answer(text)) == (None if stands else "invalid")


TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "required": ["id"]}}}]


def called(name: str, arguments: str) -> Answer:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return answer("", "tool_calls", tool_calls=[call])


@pytest.mark.parametrize(
    ("name", "arguments", "stands"),
    [
        ("find", '{"id": 1}', True),
        ("find", '{"name": 1}', False),
        ("find", '{"id": ', False),
        ("drop", '{"id": 1}', False),
    ],
)
def test_a_tool_call_must_be_one_that_was_offered(name: str, arguments: str, stands: bool) -> None:
    assert gate(SURE, tools=TOOLS).doubt(called(name, arguments)) == (None if stands else "invalid")


def test_a_call_that_was_required_must_come() -> None:
    assert gate(SURE, tools=TOOLS, tool_choice="required").doubt(answer("Hm.")) == "invalid"
    assert gate(SURE, tools=TOOLS).doubt(answer("Hm.")) is None


def test_what_only_the_end_can_tell_waits_for_it() -> None:
    begun = answer('{"a"', None)
    assert gate(SURE, response_format={"type": "json_object"}).doubt(begun) is None


def test_the_policy_says_what_counts() -> None:
    cascade = CASCADE.model_copy(update={"on": ("invalid",)})
    weighed = gate(*[UNSURE] * 20, cascade=cascade)
    assert not weighed.lost()
    assert weighed.doubt(answer("x", "length")) is None


def test_a_header_says_all_that_a_worker_must_know() -> None:
    told = orjson.loads(CASCADE.header())
    assert Cascade.model_validate(told) == CASCADE
