import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.api_keys import ApiKey
from contracts.bodies import describe
from contracts.envelope import Digest, Envelope
from contracts.errors import InvalidRequest
from ingress.attribution import envelope

KEY = ApiKey(id="k1", tenant="acme", created_at=0)


def written(headers: dict[bytes, bytes] | None = None, key: ApiKey = KEY, **fields: Any) -> Envelope:
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}], **fields}
    asked = describe(orjson.dumps(body), "chat")
    return Envelope.from_headers(envelope(key, asked, headers or {}, {"ce_id": b"1"}))


def test_a_keys_own_user_wins_over_every_word() -> None:
    key = KEY.model_copy(update={"user": "owner"})
    assert written({b"millrace-user": b"header"}, key, user="body").user == "owner"
    assert written({b"millrace-user": b"header"}, user="body").user == "header"
    assert written(user="body").user == "body"


def test_tags_of_header_and_body_are_joined_and_the_header_wins() -> None:
    assert written({b"millrace-tags": b"a=1,b=2"}, metadata={"b": "x", "c": "3"}).tags == "b=2,c=3,a=1"


def test_a_comma_in_metadata_stays_one_tag() -> None:
    assert written(metadata={"a": "1,b=2"}).tags == "a=1;b=2"


@pytest.mark.parametrize("tier", ["flex", "batch"])
def test_patient_service_tiers_go_to_the_batch_lane(tier: str) -> None:
    assert written(service_tier=tier).lane == "batch"
    assert written({b"millrace-lane": b"interactive"}, service_tier=tier).lane == "interactive"


@pytest.mark.parametrize("tier", ["auto", "default", "priority", None, 3, ["flex"]])
def test_other_service_tiers_are_interactive(tier: object) -> None:
    assert written(service_tier=tier).lane == "interactive"


@pytest.mark.parametrize(
    ("dollars", "nano"), [(b"1", 10**9), (b"0.005", 5_000_000), (b"0.0000000019", 1), (b"1e-3", 10**6), (b"0", 0)]
)
def test_cost_ceilings_are_whole_nano_dollars(dollars: bytes, nano: int) -> None:
    assert written({b"millrace-max-cost": dollars}).max_cost == nano


@pytest.mark.parametrize("dollars", [b"x", b"-0.1", b"inf", b"nan", b"1,5", b"\xff", b"1e999999"])
def test_other_cost_ceilings_are_refused(dollars: bytes) -> None:
    with pytest.raises(InvalidRequest, match="dollars"):
        written({b"millrace-max-cost": dollars})


def test_deadline_in_seconds_is_from_now() -> None:
    before = time.time() * 1000
    deadline = written({b"millrace-deadline": b"2.5"}).deadline
    assert deadline is not None
    assert before + 2499 <= deadline <= time.time() * 1000 + 2500


@pytest.mark.parametrize("text", [b"2026-11-22T18:00:00Z", b"2026-11-22T19:00:00+01:00", b"2026-11-22T18:00:00.000Z"])
def test_deadline_as_a_date(text: bytes) -> None:
    assert written({b"millrace-deadline": text}).deadline == datetime(2026, 11, 22, 18, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize("text", [b"soon", b"-5", b"2026-11-22T18:00:00", b"1969-01-01T00:00:00Z", b"\xff", b"1e9"])
def test_other_deadlines_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match="RFC 3339"):
        written({b"millrace-deadline": text})


def test_a_malformed_trace_is_dropped() -> None:
    good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert written({b"traceparent": good}).traceparent == good.decode()
    assert written({b"traceparent": good + b"\r\nx: y"}).traceparent == ""


def test_the_digest_travels_along() -> None:
    body = orjson.dumps({"model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": True})
    asked = describe(body, "chat")
    assert Digest.from_headers(envelope(KEY, asked, {}, {})) == asked.digest


@given(
    st.dictionaries(
        st.sampled_from(
            [b"millrace-user", b"millrace-feature", b"millrace-tags", b"millrace-max-cost", b"millrace-deadline"]
        ),
        st.binary(max_size=40),
    )
)
def test_any_bytes_are_taken_or_refused(headers: dict[bytes, bytes]) -> None:
    with contextlib.suppress(InvalidRequest):
        written(headers)
