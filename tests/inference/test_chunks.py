"""Response bytes: what OpenAI's clients read, and the same bytes for the same answer."""

from typing import Any

import orjson
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.answer import Answer
from inference.chunks import Chunks
from inference.engine import Finish, Step

FINISH = Finish("stop", prompt_tokens=7, completion_tokens=3, cached_tokens=2)


def chunks(operation: str = "chat", key: str = "one") -> Chunks:
    return Chunks(operation, key, 1_790_000_000, "small", "synthetic")  # type: ignore[arg-type]


def answer(*steps: Step) -> Answer:
    whole = Answer()
    for step in steps:
        whole.add(step)
    return whole


@pytest.mark.parametrize("text", ["plain", 'quotes " and \\', "new\nline", "grün 水車 🌊", ""])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("finish", [None, "stop", "length"])
def test_a_chat_chunk_is_what_the_sdk_reads(text: str, first: bool, finish: str | None) -> None:
    chunk = ChatCompletionChunk.model_validate_json(chunks().chunk(text, first=first, finish=finish))
    assert chunk.id == "chatcmpl-one"
    assert (chunk.object, chunk.created, chunk.model) == ("chat.completion.chunk", 1_790_000_000, "small")
    assert chunk.choices[0].delta.content == text
    assert chunk.choices[0].delta.role == ("assistant" if first else None)
    assert chunk.choices[0].finish_reason == finish


def test_a_text_chunk_is_what_the_sdk_reads() -> None:
    chunk = Completion.model_validate_json(chunks("text_completion").chunk("water", first=True, finish="stop"))
    assert (chunk.id, chunk.object) == ("cmpl-one", "text_completion")
    assert (chunk.choices[0].text, chunk.choices[0].finish_reason) == ("water", "stop")


def test_a_chunk_stays_one_line_whatever_the_key() -> None:
    rendered = chunks(key='odd"key\\').chunk("a\nb", first=True)
    assert b"\n" not in rendered
    assert orjson.loads(rendered)["id"] == 'chatcmpl-odd"key\\'


def test_the_chat_response_is_what_the_sdk_reads() -> None:
    response = ChatCompletion.model_validate_json(chunks().response(answer(Step("a", 1), Step(" b c", 2, FINISH))))
    assert response.choices[0].message.content == "a b c"
    assert response.choices[0].finish_reason == "stop"
    usage = response.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 2
    assert response.system_fingerprint == "synthetic"


def test_the_text_response_is_what_the_sdk_reads() -> None:
    response = Completion.model_validate_json(chunks("text_completion").response(answer(Step("a b c", 3, FINISH))))
    assert response.choices[0].text == "a b c"


def test_the_same_answer_in_other_steps_gives_the_same_bytes() -> None:
    whole = chunks().response(answer(Step("a b c", 3, FINISH)))
    assert chunks().response(answer(Step("a", 1), Step(" b", 1), Step(" c", 1, FINISH))) == whole


def call(index: int, **function: str) -> dict[str, Any]:
    return {"index": index, "function": function}


def test_tool_calls_grow_by_index_as_clients_grow_them() -> None:
    steps = (
        Step("", 1, extra={"tool_calls": [{"id": "c1", "type": "function"} | call(0, name="grind", arguments="")]}),
        Step("", 1, extra={"tool_calls": [call(0, arguments='{"sacks"')]}),
        Step("", 1, extra={"tool_calls": [{"id": "c2", "type": "function"} | call(1, name="stop", arguments="{}")]}),
        Step("", 1, extra={"tool_calls": [call(0, arguments=":3}")]}),
        Step("", 0, Finish("tool_calls", 7, 4)),
    )
    message = ChatCompletion.model_validate_json(chunks().response(answer(*steps))).choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]  # type: ignore[union-attr]
    assert calls == [("c1", "grind", '{"sacks":3}'), ("c2", "stop", "{}")]


def test_a_tool_call_chunk_passes_its_fields_through() -> None:
    extra = {"tool_calls": [{"id": "c1", "type": "function"} | call(0, name="grind", arguments="")]}
    chunk = ChatCompletionChunk.model_validate_json(chunks().chunk("", first=True, extra=extra))
    assert chunk.choices[0].delta.tool_calls is not None
    assert chunk.choices[0].delta.tool_calls[0].id == "c1"
    assert chunk.choices[0].delta.role == "assistant"


def test_other_fields_of_a_delta_are_joined() -> None:
    steps = (
        Step("", 1, extra={"reasoning_content": "first "}),
        Step("", 1, extra={"reasoning_content": "then"}),
        Step("so", 1, Finish("stop", 1, 3), logprobs={"content": [{"token": "so", "logprob": -0.1}]}),
    )
    choice = orjson.loads(chunks().response(answer(*steps)))["choices"][0]
    assert choice["message"]["reasoning_content"] == "first then"
    assert choice["message"]["content"] == "so"
    assert choice["logprobs"]["content"][0]["token"] == "so"
