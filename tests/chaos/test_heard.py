"""A stream over several connections: what its client makes of it, and what no unbroken stream has."""

from typing import Any

import pytest

from tests.chaos.answers import Said
from tests.chaos.heard import CutOff, Heard
from tests.chaos.trials import NoStream

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def chunk(text: str = "", finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "small", "choices": [{"delta": {"content": text} | more, "finish_reason": finish_reason}]}


def stream(heard: Heard) -> None:
    heard.take("1", chunk("one", role="assistant"))
    heard.take("2", chunk(" two", "stop"))
    heard.take("3", {"model": "small", "choices": [], "usage": USAGE})


def test_what_was_cut_and_gone_on_with_is_one_stream() -> None:
    heard = Heard([1])
    heard.connect()
    with pytest.raises(CutOff):
        stream(heard)
    assert heard.last_id == "1"
    heard.connect()
    heard.take("2", chunk(" two", "stop"))
    heard.take("3", {"model": "small", "choices": [], "usage": USAGE})
    assert heard.end() == Said("one two", "small", "stop", 3, 2)
    assert heard.faults == []


def test_what_no_unbroken_stream_has() -> None:
    heard = Heard()
    heard.connect()
    stream(heard)
    heard.take("1", chunk("one", role="assistant"))
    assert heard.faults == ["an event came twice", "2 roles"]
    heard.take("4", chunk("", "stop"))
    with pytest.raises(NoStream):
        heard.end()
    heard.begin_anew()
    stream(heard)
    assert heard.faults == []
