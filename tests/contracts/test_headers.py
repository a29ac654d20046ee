import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.completion import Completion
from contracts.envelope import Claim, Envelope, ReplyTo, RequestType
from contracts.errors import InvalidRequest
from contracts.frames import Frame, FrameKind
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)


@given(user=TEXT, feature=TEXT, deadline=st.none() | st.integers(0, 2**45), priority=st.integers(-100, 100))
def test_an_envelope_survives_the_headers(user: str, feature: str, deadline: int | None, priority: int) -> None:
    envelope = Envelope(ce_id="1", user=user, feature=feature, deadline=deadline, priority=priority)
    assert Envelope.from_headers(envelope.to_headers()) == envelope


def test_a_frame_survives_the_headers() -> None:
    frame = Frame(kind=FrameKind.FINAL, outcome=Outcome.SUCCEEDED, replayed=True, completion_tokens=7)
    assert Frame.from_headers(frame.to_headers()) == frame


def test_no_headers_at_all_is_a_request() -> None:
    assert Envelope.from_headers([]).ce_type is RequestType.REQUEST


@pytest.mark.parametrize(
    ("header", "value"),
    [("ce_type", b"other.v9"), ("lane", b"fast"), ("priority", b"high"), ("deadline", b"-1"), ("user", b"\xff")],
)
def test_a_header_that_does_not_fit_is_refused(header: str, value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Envelope.from_headers([(header, value)])


def test_other_headers_are_ignored_and_the_last_one_wins() -> None:
    assert Envelope.from_headers([("x", b"\x00"), ("user", b"a"), ("user", b"b")]).user == "b"


@pytest.mark.parametrize("text", ["", "1", "a.b", "1.2.3", "-1.2"])
def test_an_unfit_claim_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Claim.parse(text)


def test_claim_and_reply_address_survive_their_text() -> None:
    assert Claim.parse(str(Claim(3, 128))) == Claim(3, 128)
    assert ReplyTo.parse("responses/3") == ReplyTo("responses", 3)
    assert str(ReplyTo.parse("responses.acme")) == "responses.acme"


@pytest.mark.parametrize("address", ["usage", "usage/1", "__consumer_offsets", "responsesx", "", "responses/x"])
def test_frames_never_go_to_topics_that_mean_something_else(address: str) -> None:
    with pytest.raises(InvalidRequest):
        Topics.of(Settings()).check_reply_to(address)


def test_billing_rule_of_each_outcome() -> None:
    assert {outcome for outcome in Outcome if outcome.billed} == {"succeeded", "timed_out", "cancelled"}
    assert [outcome for outcome in Outcome if not outcome.stored] == [Outcome.REJECTED]
    assert Completion(outcome=Outcome.FAILED, finished_at=1).status == 200
