import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.bodies import describe
from contracts.errors import InvalidRequest

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8)


def fingerprint_of(**fields: object) -> str:
    return describe(orjson.dumps(CHAT | fields)).digest.fingerprint


@given(st.dictionaries(st.sampled_from(["x1", "x2", "x3", "seed"]), st.integers(0, 9)), st.randoms())
def test_fingerprint_is_blind_to_key_order_and_white_space(extra: dict[str, int], rng: object) -> None:
    fields = list((CHAT | extra).items())
    rng.shuffle(fields)  # type: ignore[attr-defined]
    shuffled = orjson.dumps(dict(fields), option=orjson.OPT_INDENT_2)
    assert describe(shuffled).digest.fingerprint == fingerprint_of(**extra)


def test_fingerprint_is_blind_to_delivery() -> None:
    assert fingerprint_of(stream=True, stream_options={"include_usage": True}) == fingerprint_of()


@pytest.mark.parametrize("field", [{"temperature": 0.5}, {"model": "small"}, {"seed": 1}, {"max_tokens": 5}])
def test_fingerprint_is_alert_to_what_changes_the_answer(field: dict[str, object]) -> None:
    assert fingerprint_of(**field) != fingerprint_of()


def test_fingerprint_is_alert_to_the_operation() -> None:
    both = orjson.dumps(CHAT | {"prompt": "hello"})
    assert describe(both, "chat").digest.fingerprint != describe(both, "text_completion").digest.fingerprint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": "hi"}, "messages"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        describe(orjson.dumps(CHAT | change))
    assert caught.value.param == named
    assert caught.value.message.startswith(named)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":1'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        describe(body)


@given(st.dictionaries(st.text(max_size=12), SCALARS | st.lists(SCALARS, max_size=3), max_size=5))
def test_any_object_is_described_or_refused(fields: dict[str, object]) -> None:
    with contextlib.suppress(InvalidRequest):
        described = describe(orjson.dumps(fields))
        assert described.digest.requested_model == fields["model"]


def test_attribution_comes_from_user_and_metadata() -> None:
    body = CHAT | {"user": "u1", "metadata": {"feature": "search", "team": "core", "env": "a,b"}}
    described = describe(orjson.dumps(body))
    assert (described.user, described.feature, described.tags) == ("u1", "search", "team=core,env=a;b")


def test_content_parts_are_read_as_text() -> None:
    parts = [{"type": "text", "text": "abcd" * 100}, {"type": "image_url", "image_url": {"url": "x"}}]
    described = describe(orjson.dumps(CHAT | {"messages": [{"role": "user", "content": parts}]}))
    assert 100 <= described.digest.prompt_estimate <= 110
