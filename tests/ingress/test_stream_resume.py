"""A stream cut anywhere and gone on with by its last event's id is the unbroken stream, whatever the frames did."""

from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from ingress.event_id import End, EventId, run_tag
from ingress.frame import RawFrame
from ingress.stream import AnswerStream
from tests.ingress.test_stream_properties import TEXTS, mixed, parts_of
from tests.support.frames import (
    USAGE,
    Heard,
    chat_answer,
    chat_chunk,
    chat_run,
    final_of,
    hear,
    number,
    text_answer,
    text_run,
)

HELLO = ["Hel", "lo ", "wörld"]
RUN = chat_run("a", HELLO)
FINAL = final_of(RUN, chat_answer("Hello wörld"))


def events_of(frames: list[RawFrame], after: bytes = b"", *, include_usage: bool = False) -> list[bytes]:
    """A stream's events, from the beginning or after an id."""
    place = EventId.parse(after.decode()) if after else EventId()
    stream = AnswerStream(include_usage=include_usage, after=place)
    written = b"".join(stream.feed(frame) for frame in frames)
    return [event + b"\n\n" for event in written.split(b"\n\n")[:-1]]


def id_of(event: bytes) -> bytes:
    line = event.partition(b"\n")[0]
    assert line.startswith(b"id: ")
    return line.removeprefix(b"id: ")


def heard_of(events: list[bytes]) -> Heard:
    return hear(b"".join(events))


class TestEventIds:
    @given(st.integers(0, 2**32 - 1), st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1), st.sampled_from(End))
    def test_are_read_as_they_were_written(self, run: int, sequence: int, position: int, end: End) -> None:
        place = EventId(b"%08x" % run, sequence, position, end)
        for said in (place, place._replace(end=End.NOTHING, checksum=run)):
            assert EventId.parse(said.encode().decode()) == said

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1",
            "x.1.1",
            "1.1",
            "a.1.-1",
            "a.1.1.0",
            "a.1.1.4",
            "a.1.1.1.1",
            "a.1.1-x",
            "a.1.1.1-0a0b0c0d",
            "a.1.1\n",
        ],
    )
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest):
            EventId.parse(text)

    def test_dont_tell_who_ran_it(self) -> None:
        assert b"host-7" not in events_of(chat_run("host-7", HELLO))[0]
        assert run_tag(b"host-7.1") != run_tag(b"host-7.2")


class TestUnbrokenRuns:
    @pytest.mark.parametrize("kept", range(1, len(RUN) + 2))
    def test_the_rest_is_byte_for_byte_what_was_cut(self, kept: int) -> None:
        whole = events_of([*RUN, FINAL], include_usage=True)
        assert events_of([*RUN, FINAL], id_of(whole[kept - 1]), include_usage=True) == whole[kept:]

    @pytest.mark.parametrize("kept", range(1, len(RUN) + 1))
    def test_when_the_frames_are_gone_the_answer_tells_the_rest(self, kept: int) -> None:
        before = events_of([*RUN, FINAL])[:kept]
        heard = heard_of([*before, *events_of([FINAL], id_of(before[-1]))])
        assert (heard.text, heard.roles, heard.finish_reasons) == ("Hello wörld", ["assistant"], ["stop"])
        assert heard.done

    def test_a_whole_answer_is_not_told_again(self) -> None:
        whole = events_of([FINAL], include_usage=True)
        assert [heard_of([event]).usage for event in whole] == [None, USAGE, None]
        for kept in (1, 2):
            assert events_of([*RUN, FINAL], id_of(whole[kept - 1]), include_usage=True) == whole[kept:]

    def test_another_runs_answer_without_the_frames_that_were_sent_is_an_error(self) -> None:
        place = id_of(events_of(RUN)[1])
        heard = heard_of(events_of([final_of(chat_run("b", HELLO), chat_answer("Hello wörld"))], place))
        assert heard.error is not None
        assert heard.error["code"] == "stream_diverged"

    def test_half_told_tool_calls_need_the_frames(self) -> None:
        call = {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"n":1}'}}
        run = number(
            "a",
            [
                (chat_chunk({"role": "assistant", "content": None}), 0),
                (chat_chunk({"tool_calls": [{**call, "index": 0, "function": {"name": "look", "arguments": "{"}}]}), 0),
                (chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"n":1}'}}]}), 0),
                (chat_chunk({}, "tool_calls"), 0),
            ],
        )
        final = final_of(run, chat_answer(None, [call], "tool_calls"))
        whole = events_of([*run, final])
        for kept in range(1, len(whole)):
            after = EventId.parse(id_of(whole[kept - 1]).decode())
            assert AnswerStream(after=after).needs_deltas(final) == (not after.end)
            assert events_of([*run, final], id_of(whole[kept - 1])) == whole[kept:]


@dataclass
class Case:
    """`log` is what Kafka has; `arrived` what reached the first replica."""

    text: str
    log: list[RawFrame]
    arrived: list[RawFrame]
    final: RawFrame


@st.composite
def cases(draw: st.DrawFn, *, agreeing: bool, text_completion: bool = False) -> Case:
    text = draw(TEXTS)
    run_of = text_run if text_completion else chat_run
    runs = []
    for name in draw(st.sampled_from(["", "a", "ab"])):
        own = text if agreeing or draw(st.booleans()) else draw(TEXTS)
        run = run_of(name, draw(parts_of(own)))
        runs.append(run[: draw(st.integers(0, len(run)))])
    whole = run_of("z", draw(parts_of(text)))
    log = _without_losses(draw(mixed([*runs, whole])), [*runs, whole])
    arrived = [frame for frame in log for _ in range(draw(st.sampled_from([1, 1, 1, 1, 1, 0, 2])))]
    answer = text_answer(text) if text_completion else chat_answer(text)
    return Case(text, log, arrived, final_of(whole, answer))


def _without_losses(drawn: list[RawFrame], runs: list[list[RawFrame]]) -> list[RawFrame]:
    """In the drawn order of runs, each run's frames whole and in order."""
    left = {run[0].headers["run"]: iter(run) for run in runs if run}
    order = [frame.headers["run"] for frame in drawn]
    ordered = [frame for name in order if (frame := next(left[name], None))]
    return ordered + [frame for frames in left.values() for frame in frames]


def cut_and_resume(case: Case, data: st.DataObject) -> Heard:
    """Cut several times; each time another replica reads the log from the beginning."""
    events = events_of([*case.arrived, case.final])
    heard: list[bytes] = []
    for _ in range(data.draw(st.integers(1, 3))):
        heard += events[: data.draw(st.integers(0, len(events)))]
        told = [event for event in heard if event.startswith(b"id: ")]
        if len(told) < len(heard):
            break  # an error ended it
        after = id_of(told[-1]) if told else b""
        if after and EventId.parse(after.decode()).end is End.DONE:
            break
        events = events_of([*case.log, case.final], after)
    else:
        heard += events
    return heard_of(heard)


@given(cases(agreeing=True), st.data())
def test_runs_that_agree_give_the_whole_answer(case: Case, data: st.DataObject) -> None:
    heard = cut_and_resume(case, data)
    assert heard.done
    assert heard.text == case.text
    assert heard.roles == ["assistant"]
    assert heard.finish_reasons == ["stop"]


@given(cases(agreeing=False), st.data())
def test_runs_that_disagree_give_the_final_text_or_an_error(case: Case, data: st.DataObject) -> None:
    heard = cut_and_resume(case, data)
    assert heard.done != (heard.error is not None)
    if heard.done:
        assert heard.text == case.text
        assert heard.finish_reasons == ["stop"]


@given(cases(agreeing=True, text_completion=True), st.data())
def test_text_completions_too(case: Case, data: st.DataObject) -> None:
    heard = cut_and_resume(case, data)
    assert (heard.text, heard.finish_reasons, heard.done) == (case.text, ["stop"], True)


@given(st.data())
def test_tool_calls_too(data: st.DataObject) -> None:
    calls: list[Any] = [{"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"n":12}'}}]
    opening = {**calls[0], "index": 0, "function": {"name": "look", "arguments": ""}}
    parts = [part for part in data.draw(parts_of('{"n":12}')) if part]
    chunks = [chat_chunk({"role": "assistant", "content": None}), chat_chunk({"tool_calls": [opening]})]
    chunks += [chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}) for part in parts]
    run = number("a", [(chunk, 0) for chunk in [*chunks, chat_chunk({}, "tool_calls")]])
    final = final_of(run, chat_answer(None, calls, "tool_calls"))
    whole = events_of([*run, final])
    kept = data.draw(st.integers(1, len(whole) - 1))
    heard = heard_of([*whole[:kept], *events_of([*run, final], id_of(whole[kept - 1]))])
    assert orjson.loads(heard.tools[0]["arguments"]) == {"n": 12}
    assert (heard.finish_reasons, heard.done) == (["tool_calls"], True)
