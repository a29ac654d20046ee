import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidIdempotencyKey, InvalidRequest
from contracts.keys import RequestKey, check_idempotency_key, new_idempotency_key, parse_idempotency_header

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@given(VISIBLE)
def test_a_key_survives_the_record_key(key: str) -> None:
    assert RequestKey.decode(RequestKey("acme", key).encode()) == RequestKey("acme", key)


def test_quoted_equals_bare() -> None:
    assert parse_idempotency_header('"order-42"') == parse_idempotency_header("order-42") == "order-42"


@pytest.mark.parametrize("key", ["", '""', "a b", "tab\t", "ü", "x" * 256, "line\nbreak", "\x7f"])
def test_unfit_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        parse_idempotency_header(key)


@pytest.mark.parametrize("record_key", [None, b"", b"no-tenant", b":key", b"ten ant:key", b"t\xff:key", b"-t:key"])
def test_record_keys_without_a_tenant_are_refused(record_key: bytes | None) -> None:
    with pytest.raises(InvalidRequest):
        RequestKey.decode(record_key)


def test_made_keys_are_fit_and_differ() -> None:
    keys = {check_idempotency_key(new_idempotency_key()) for _ in range(100)}
    assert len(keys) == 100
