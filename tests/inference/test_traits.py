"""What an answer comes to, so that two models' answers can be compared without keeping either."""

from typing import Any

import pytest

from inference.answer import Answer
from inference.engine import Finish, Step
from inference.traits import gist, traits


def answer(text: str = "", reason: str = "stop", *logprobs: float, **extra: Any) -> Answer:
    whole = Answer()
    whole.add(Step(text, 3, Finish(reason, 5, 3), extra=extra or None, token_logprobs=logprobs))
    return whole


def call(name: str, arguments: str, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("So 3 + 4 = 7.\n#### 7", "First take 3, then 4 more. The answer is 7."),
        ("#### 1,250", "The final answer is: $1250.00."),
        ("The answer is (B).", "answer: B"),
        ("I first thought the answer is 3. But no: the answer is 4.", r"Thus \boxed{4}"),
        ('{"a": 1, "b": [2]}', '```json\n{"b": [2], "a": 1}\n```'),
        ("Paris.", '  "paris" '),
    ],
)
def test_answers_that_say_the_same_are_the_same(one: str, other: str) -> None:
    assert gist(answer(one)) == gist(answer(other))
    assert traits(answer(one), {}).answer_digest == traits(answer(other), {}).answer_digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("#### 7", "#### 8"),
        ("#### -7", "#### 7"),
        ("#### 0.5", "#### 5"),
        ("The answer is (B).", "The answer is (C)."),
        ('{"a": 1}', '{"a": "1"}'),
        ("Paris.", "Paris and London."),
        ("7", "[7]"),
    ],
)
def test_answers_that_differ_are_told_apart(one: str, other: str) -> None:
    assert gist(answer(one)) != gist(answer(other))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[1]", "json"),
        ("{broken", "text"),
        ("[" * 400 + "]" * 400, "text"),
        ("#### 7", "final"),
        ("A mill grinds.", "text"),
        ("The answer is " + "long " * 40, "text"),
        ("", "text"),
    ],
)
def test_what_is_compared_is_said(text: str, kind: str) -> None:
    assert gist(answer(text))[0] == kind


def test_calls_are_compared_by_function_and_arguments() -> None:
    one = answer(tool_calls=[call("grind", '{"kg": 3, "fine": true}')])
    same = answer(tool_calls=[call("grind", '{"fine":true,"kg":3}', "c2")])
    other = answer(tool_calls=[call("grind", '{"kg": 4, "fine": true}')])
    broken = answer(tool_calls=[call("grind", '{"kg')])
    assert gist(one) == gist(same) != gist(other)
    assert gist(broken)[0] == "call"


def test_what_is_wrong_with_it_in_itself_is_told_and_how_sure_it_was() -> None:
    wants_json = {"response_format": {"type": "json_object"}}
    assert traits(answer("words"), wants_json).doubt == "invalid"
    assert traits(answer("I'm sorry, but I can't help with that."), {}).doubt == "refusal"
    assert traits(answer("cut", "length"), {}).doubt == "length"
    fine = traits(answer("ok", "stop", -9.0, -1.0), {})
    assert (fine.doubt, fine.mean_logprob) == ("", -5.0), "being unsure is told by the figure"
    assert traits(answer("ok"), {}).mean_logprob is None


def test_no_text_travels() -> None:
    said = traits(answer("The secret is 1234567."), {}).to_headers()
    assert not any(b"1234567" in value for _, value in said)
