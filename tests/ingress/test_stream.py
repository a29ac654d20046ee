"""The stream's state machine: what a client gets is the final text, whatever happens to the frames."""

import orjson
import pytest

from contracts.errors import StillRunning
from contracts.frames import Frame, FrameKind
from ingress.event_id import run_tag
from ingress.frame import RawFrame
from ingress.stream import AnswerStream
from tests.support.frames import (
    USAGE,
    chat_answer,
    chat_chunk,
    chat_run,
    final_of,
    hear,
    number,
    raw,
    text_answer,
    text_run,
)


def feed(frames: list[RawFrame], *, include_usage: bool = False) -> bytes:
    stream = AnswerStream(include_usage=include_usage)
    return b"".join(stream.feed(frame) for frame in frames)


def written_through(run: list[RawFrame]) -> bytes:
    """Each chunk as it is, with the place in the run and in the text as its id."""
    tag = run_tag(run[0].headers["run"])
    ids = [b"%b.%b.%b" % (tag, frame.headers["sequence"], frame.headers["position"]) for frame in run]
    events = [b"id: %b\ndata: %b\n\n" % (id_, frame.value) for id_, frame in zip(ids, run, strict=True)]
    return b"".join(events) + b"id: %b.3\ndata: [DONE]\n\n" % ids[-1]


HELLO = ["Hel", "lo ", "wörld"]


def test_unbroken_deltas_are_written_as_they_are() -> None:
    run = chat_run("a", HELLO)
    events = feed([*run, final_of(run, b"not even parsed")])
    assert events == written_through(run)


def test_usage_comes_from_the_final_answer_in_a_chunk_without_choices() -> None:
    run = chat_run("a", HELLO)
    events = feed([*run, final_of(run, chat_answer("Hello wörld"))], include_usage=True)
    last = orjson.loads(events.split(b"\n\n")[-3].partition(b"data: ")[2])
    assert last["choices"] == []
    assert last["usage"] == USAGE
    assert last["object"] == "chat.completion.chunk"
    assert hear(events).done


def test_an_answer_without_deltas_is_one_chunk_with_role_text_and_finish_reason() -> None:
    heard = hear(feed([final_of(chat_run("a", HELLO), chat_answer("Hello wörld"))]))
    assert (heard.roles, heard.text, heard.finish_reasons, heard.done) == (["assistant"], "Hello wörld", ["stop"], True)
    assert heard.chunks == 1


def test_tool_calls_without_deltas_are_numbered() -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "look", "arguments": '{"n":1}'}} for n in (0, 1)
    ]
    heard = hear(feed([final_of(chat_run("a", [""]), chat_answer(None, calls, "tool_calls"))]))
    assert heard.tools == {n: {"id": f"call_{n}", "name": "look", "arguments": '{"n":1}'} for n in (0, 1)}
    assert heard.finish_reasons == ["tool_calls"]


def test_half_told_tool_calls_are_completed() -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"n":1}'}}
    first = {**call, "index": 0, "function": {"name": "look", "arguments": '{"n'}}
    chunks = [
        (chat_chunk({"role": "assistant", "content": None}), 0),
        (chat_chunk({"tool_calls": [first]}), 0),
        (chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]}), 0),
        (chat_chunk({}, "tool_calls"), 0),
    ]
    run = number("a", chunks)
    final = final_of(run, chat_answer(None, [call], "tool_calls"))
    whole = hear(feed([*run, final]))
    for kept in range(len(run) + 1):
        heard = hear(feed([*run[:kept], final]))
        assert (heard.tools, heard.finish_reasons, heard.done) == (whole.tools, ["tool_calls"], True)


def test_lost_deltas_are_made_good_at_the_end() -> None:
    run = chat_run("a", HELLO)
    for lost in range(len(run)):
        heard = hear(feed([*run[:lost], *run[lost + 1 :], final_of(run, chat_answer("Hello wörld"))]))
        assert (heard.text, heard.roles, heard.finish_reasons) == ("Hello wörld", ["assistant"], ["stop"])


def test_repeated_deltas_are_written_once() -> None:
    run = chat_run("a", HELLO)
    doubled = [frame for frame in run for _ in range(2)]
    assert hear(feed([*doubled, final_of(run, chat_answer("Hello wörld"))])).text == "Hello wörld"


def test_a_second_run_goes_on_where_the_first_was_cut() -> None:
    first, second = chat_run("a", HELLO), chat_run("b", ["Hell", "o wör", "ld"])
    stream = AnswerStream()
    sent = b"".join(stream.feed(frame) for frame in [*first[:3], *second])
    assert hear(sent).text == "Hello wörld"  # at once, not only with the final frame
    heard = hear(sent + stream.feed(final_of(second, chat_answer("Hello wörld"))))
    assert (heard.text, heard.roles, heard.finish_reasons, heard.done) == (
        "Hello wörld",
        ["assistant"],
        ["stop"],
        True,
    )


def test_a_run_that_restarts_before_anything_was_sent_is_written_through() -> None:
    late, second = chat_run("a", HELLO)[2:3], chat_run("b", HELLO)
    events = feed([*late, *second, final_of(second, b"not parsed")])
    assert events == written_through(second)


def test_who_joins_while_another_run_goes_on_is_told_from_the_beginning() -> None:
    """That run's first frame isn't the answer's first: the beginning is in the frames of the run before."""
    frames = [
        raw(Frame(kind=FrameKind.DELTA, run="b", sequence=sequence, position=position), chat_chunk({"content": text}))
        for sequence, position, text in ((1, 9, "wör"), (2, 11, "ld"))
    ]
    heard = hear(feed([*frames, final_of(frames, chat_answer("Hello wörld"))]))
    assert (heard.text, heard.finish_reasons, heard.done) == ("Hello wörld", ["stop"], True)


def test_another_text_than_the_one_sent_ends_with_an_error_event() -> None:
    first, second = chat_run("a", ["Good ", "morning"]), chat_run("b", ["Good ", "evening"])
    heard = hear(feed([*first[:3], *second, final_of(second, chat_answer("Good evening"))]))
    assert heard.text == "Good morning"
    assert heard.error is not None
    assert heard.error["code"] == "stream_diverged"
    assert not heard.done


def test_a_run_that_contradicts_what_was_sent_is_passed_over() -> None:
    first, zombie, second = (
        chat_run(*run) for run in (("a", ["Good "]), ("z", ["Bad w", "eather"]), ("b", ["Good day"]))
    )
    heard = hear(feed([*first[:2], *zombie, *second, final_of(second, chat_answer("Good day"))]))
    assert (heard.text, heard.done) == ("Good day", True)


def test_when_a_run_takes_over_the_others_count_no_more() -> None:
    first, second = chat_run("a", ["Good ", "morning"]), chat_run("b", ["Good ", "evening"])
    takeover = raw(Frame(kind=FrameKind.DELTA, run="b"), chat_chunk({"content": ""}))
    heard = hear(feed([*first[:2], takeover, *first[2:], *second[2:], final_of(second, chat_answer("Good evening"))]))
    assert (heard.text, heard.finish_reasons, heard.done) == ("Good evening", ["stop"], True)


def test_a_shorter_final_text_than_the_one_sent_is_an_error_too() -> None:
    run = chat_run("a", ["Good ", "morning"], finish=None)
    other = chat_run("b", ["Good"])
    assert hear(feed([*run, final_of(other, chat_answer("Good"))])).error is not None


def test_another_finish_reason_than_the_one_sent_is_an_error_too() -> None:
    first = chat_run("a", HELLO, finish="length")
    second = chat_run("b", HELLO)
    assert hear(feed([*first, final_of(second, chat_answer("Hello wörld"))])).error is not None


def test_an_error_frame_is_one_event_even_when_pretty_printed() -> None:
    run = chat_run("a", HELLO)
    body = b'{\n "error": {"message": "gone", "code": "upstream_failed"}\n}'
    error = raw(Frame(kind=FrameKind.ERROR, status=502), body)
    heard = hear(feed([*run[:2], error, *run[2:]]))
    assert heard.error == {"message": "gone", "code": "upstream_failed"}
    assert not heard.done


def test_states_say_nothing_to_a_stream() -> None:
    run = chat_run("a", HELLO)
    state = raw(Frame(kind=FrameKind.STATE), b"{}")
    assert feed([state, *run, state, final_of(run, b"")]).endswith(b"data: [DONE]\n\n")


def test_nothing_is_written_after_the_end() -> None:
    run = chat_run("a", HELLO)
    stream = AnswerStream()
    assert hear(stream.fail(StillRunning("later"))).error is not None
    assert stream.closed
    assert [stream.feed(frame) for frame in [*run, final_of(run, b"")]] == [b""] * (len(run) + 1)


@pytest.mark.parametrize("kept", range(5))
def test_text_completions_go_the_same_way(kept: int) -> None:
    run = text_run("a", HELLO)
    stream = AnswerStream(include_usage=True)
    events = b"".join(stream.feed(frame) for frame in [*run[:kept], final_of(run, text_answer("Hello wörld"))])
    heard = hear(events)
    assert (heard.text, heard.finish_reasons, heard.usage, heard.done) == ("Hello wörld", ["stop"], USAGE, True)


def test_logprobs_come_with_a_whole_answer_and_not_with_a_cut_one() -> None:
    answer = orjson.loads(chat_answer("Hello"))
    answer["choices"][0]["logprobs"] = {"content": [{"token": "Hello", "logprob": -0.1}]}
    value = orjson.dumps(answer)
    run = chat_run("a", ["Hel", "lo"])
    whole = orjson.loads(feed([final_of(run, value)]).split(b"\n\n")[0].partition(b"data: ")[2])
    assert whole["choices"][0]["logprobs"] == answer["choices"][0]["logprobs"]
    cut = orjson.loads(feed([*run[:2], final_of(run, value)]).split(b"\n\n")[2].partition(b"data: ")[2])
    assert cut["choices"][0]["logprobs"] is None
