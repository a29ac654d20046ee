"""What published frames add up to: as far as an engine may go on from it."""

from typing import Any

import pytest

from inference.engine import Finish
from inference.published import Published, pack_ids
from tests.support.frames import chat_chunk, text_chunk

Told = tuple[dict[str, bytes], bytes]


def delta(run: str, sequence: int, text: str, position: int, tokens: int, *ids: int, **more: Any) -> Told:
    headers = {"run": run, "sequence": sequence, "position": position, "completion-tokens": tokens}
    encoded = {name: str(value).encode() for name, value in headers.items()}
    if ids:
        encoded["token-ids"] = pack_ids(ids)
    return encoded, chat_chunk({"content": text} | more)


def takeover(run: str) -> Told:
    return delta(run, 0, "", 0, 0)


def published(*frames: Told) -> Published:
    found = Published()
    for headers, value in frames:
        found.add(headers, value)
    return found


FIRST = [delta("a", 1, "Hel", 3, 1, 11, role="assistant"), delta("a", 2, "lo ", 6, 3, 12, 13)]


def test_text_tokens_and_ids_add_up() -> None:
    found = published(*FIRST)
    assert (found.prefix.text, found.prefix.tokens, found.prefix.token_ids) == ("Hello ", 3, (11, 12, 13))
    assert found.unbroken
    assert not found.answer.extra


def test_a_run_that_took_over_goes_on_and_nobody_else_does() -> None:
    zombie = delta("a", 3, "you", 9, 4, 14)
    found = published(*FIRST, takeover("b"), zombie, delta("b", 1, "wörld", 11, 5, 21, 22), zombie)
    assert (found.prefix.text, found.prefix.tokens, found.prefix.token_ids) == ("Hello wörld", 5, (11, 12, 13, 21, 22))
    assert found.unbroken


def test_what_came_twice_counts_once() -> None:
    assert published(*FIRST, *FIRST).prefix == published(*FIRST).prefix


@pytest.mark.parametrize(
    "after",
    [
        delta("a", 4, "!", 7, 4),  # one is missing
        delta("b", 1, "Hello!", 6, 3),  # begins anew
        delta("b", 2, "!", 7, 4),  # the beginning is missing
    ],
)
def test_what_does_not_go_on_breaks_it(after: Told) -> None:
    assert not published(*FIRST, after).unbroken


def test_another_runs_tool_calls_are_not_joined_to_the_first_ones() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    frames = [delta(run, 1, "", 0, 1, tool_calls=[call]) for run in ("a", "b")]
    assert published(frames[0]).answer.extra["tool_calls"]
    assert not published(frames[0], takeover("b"), frames[1]).unbroken


def test_ids_are_all_or_none() -> None:
    assert published(*FIRST, delta("a", 3, "you", 9, 5, 14)).prefix.token_ids is None


def test_the_last_frame_has_all_that_the_answer_needs() -> None:
    headers = {"run": b"a", "sequence": b"1", "position": b"2", "completion-tokens": b"2"}
    headers |= {"prompt-tokens": b"9", "cached-tokens": b"4", "model-version": b"7"}
    assert published((headers, text_chunk("Hi", "stop"))).answer.finish == Finish("stop", 9, 2, 4, "7")


def test_logprobs_are_kept() -> None:
    headers, _ = FIRST[0]
    value = b'{"choices":[{"delta":{"content":"Hel"},"logprobs":{"content":[{"token":"Hel"}]},"finish_reason":null}]}'
    assert published((headers, value), (headers, value)).answer.logprobs == {"content": [{"token": "Hel"}]}
