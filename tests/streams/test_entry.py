import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.envelope import Claim
from contracts.outcomes import Outcome
from streams.entry import MAX_WAITERS, Answer, Entry, First

NUMBER = st.integers(0, 2**53)
CLAIM = st.builds(Claim, st.integers(0, 99), NUMBER)
ANSWER = st.builds(
    Answer,
    outcome=st.sampled_from(Outcome),
    status=st.integers(100, 599),
    settled_by=st.text(max_size=9),
    finished_at=NUMBER,
    model=st.text(max_size=9),
    run=st.text(max_size=9),
    sequence=NUMBER,
    position=NUMBER,
    prompt_tokens=NUMBER,
    cached_tokens=NUMBER,
    completion_tokens=NUMBER,
    retry_after_ms=st.none() | NUMBER,
    cost_nano=NUMBER,
    price_version=st.text(max_size=9),
)
PLAIN = st.builds(
    Entry,
    fingerprint=st.text(max_size=32),
    claim=CLAIM,
    accepted_at=NUMBER,
    deduped_at=NUMBER,
    model=st.text(max_size=9),
    reply_to=st.text(max_size=9),
    waiters=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    answer=st.none() | ANSWER,
    body=st.binary(max_size=64),
    previous=st.none(),
    first=st.none() | st.builds(First, st.text(max_size=9), NUMBER, st.text(max_size=9)),
)
ENTRY = st.builds(lambda entry, previous: entry._replace(previous=previous), PLAIN, st.none() | PLAIN)


@given(ENTRY)
def test_what_is_encoded_is_decoded(entry: Entry) -> None:
    assert Entry.decode(entry.encode()) == entry


@given(PLAIN)
def test_the_answers_bytes_are_stored_as_they_came(entry: Entry) -> None:
    assert entry.encode().endswith(b"\n" + entry.body)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 07"):
        Entry.decode(b"\x07[]\n")


def test_waiters_are_unique_and_bounded() -> None:
    entry = Entry("f", Claim(0, 0), 0, 0, "small", "responses/0")
    for number in range(MAX_WAITERS):
        joined = entry.with_waiter(f"responses/{number + 1}")
        assert joined is not None
        entry = joined
    assert entry.with_waiter("responses/0") is entry
    assert entry.with_waiter("responses/5") is entry
    assert entry.with_waiter("responses/99") is None
