"""Crashed runs, frames lost, doubled or mixed: the client gets the final text, or its stream ends with an error."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingress.frame import RawFrame
from ingress.stream import AnswerStream
from tests.support.frames import (
    chat_answer,
    chat_chunk,
    chat_run,
    final_of,
    hear,
    number,
    text_answer,
    text_run,
)

TEXTS = st.text(alphabet=st.sampled_from('ab é🌊\n"\\'), max_size=12)


@dataclass
class Case:
    text: str
    arrived: list[RawFrame]
    final: RawFrame


@st.composite
def parts_of(draw: st.DrawFn, text: str) -> list[str]:
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def mixed(draw: st.DrawFn, runs: list[list[RawFrame]]) -> list[RawFrame]:
    """In order within each run, any order between them; any frame lost or doubled."""
    order = draw(st.permutations([index for index, run in enumerate(runs) for _ in run]))
    left = [iter(run) for run in runs]
    arrived: list[RawFrame] = []
    for index in order:
        arrived += [next(left[index])] * draw(st.sampled_from([1, 1, 1, 1, 0, 2]))
    return arrived


@st.composite
def chats(draw: st.DrawFn, *, agreeing: bool) -> Case:
    """Up to three runs; the last one's outcome counts. Agreeing runs have one text, and may end early."""
    text = draw(TEXTS)
    runs = []
    for name in draw(st.sampled_from(["a", "ab", "abc"])):
        own = text if agreeing or draw(st.booleans()) else draw(TEXTS)
        run = chat_run(name, draw(parts_of(own)))
        runs.append(run)
    whole = chat_run("z", draw(parts_of(text)))
    crashed = [run[: draw(st.integers(0, len(run)))] for run in runs]
    return Case(text, draw(mixed([*crashed, whole])), final_of(whole, chat_answer(text)))


def play(case: Case) -> bytes:
    stream = AnswerStream()
    events = b"".join(stream.feed(frame) for frame in [*case.arrived, case.final])
    assert stream.closed
    return events


@given(chats(agreeing=True))
def test_runs_that_agree_always_give_the_whole_answer(case: Case) -> None:
    heard = hear(play(case))
    assert heard.done
    assert heard.text == case.text
    assert heard.roles == ["assistant"]
    assert heard.finish_reasons == ["stop"]


@given(chats(agreeing=False))
def test_runs_that_disagree_give_the_final_text_or_an_error(case: Case) -> None:
    heard = hear(play(case))
    assert heard.done != (heard.error is not None)
    if heard.done:
        assert heard.text == case.text
        assert heard.finish_reasons == ["stop"]


@given(st.data())
def test_text_completions_too(data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    whole = text_run("z", data.draw(parts_of(text)))
    crashed = text_run("a", data.draw(parts_of(text)))[: data.draw(st.integers(0, 8))]
    stream = AnswerStream()
    frames = [*data.draw(mixed([crashed, whole])), final_of(whole, text_answer(text))]
    heard = hear(b"".join(stream.feed(frame) for frame in frames))
    assert (heard.text, heard.finish_reasons, heard.done) == (text, ["stop"], True)


@given(st.data())
def test_tool_calls_are_whole_whatever_was_lost(data: st.DataObject) -> None:
    calls: list[Any] = [
        {"id": f"call_{n}", "type": "function", "function": {"name": f"look{n}", "arguments": arguments}}
        for n, arguments in enumerate(data.draw(st.lists(TEXTS, min_size=1, max_size=3)))
    ]
    final = chat_answer(None, calls, "tool_calls")
    whole = _tool_run("z", calls, data)
    crashed = _tool_run("a", calls, data)[: data.draw(st.integers(0, 8))]
    stream = AnswerStream()
    frames = [*data.draw(mixed([crashed, whole])), final_of(whole, final)]
    heard = hear(b"".join(stream.feed(frame) for frame in frames))
    assert heard.error is None
    assert heard.finish_reasons == ["tool_calls"]
    assert heard.tools == {
        n: {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for n, call in enumerate(calls)
    }


def _tool_run(name: str, calls: list[Any], data: st.DataObject) -> list[RawFrame]:
    chunks = [(chat_chunk({"role": "assistant", "content": None}), 0)]
    for index, call in enumerate(calls):
        parts = data.draw(parts_of(call["function"]["arguments"]))
        opening = {**call, "index": index, "function": {**call["function"], "arguments": parts[0]}}
        chunks.append((chat_chunk({"tool_calls": [opening]}), 0))
        chunks += [
            (chat_chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}), 0) for part in parts[1:]
        ]
    chunks.append((chat_chunk({}, "tool_calls"), 0))
    return number(name, chunks)
