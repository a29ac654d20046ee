import pytest

from ingress.answers import frame_headers
from ingress.frame import RawFrame
from ingress.rate_limits import duration


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (20, "20ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (360_000, "6m0s"),
        (28_812_000, "8h0m12s"),
        (86_399_999, "23h59m59.999s"),
    ],
)
def test_durations_read_as_openais(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_a_frames_limits_become_openais_headers() -> None:
    limits = b"requests=1000,998,120;tokens=200000,199600,61000"
    headers = dict(frame_headers(RawFrame({"rate-limits": limits, "retry-after-ms": b"1234"}, b"")))
    assert headers == {
        b"x-ratelimit-limit-requests": b"1000",
        b"x-ratelimit-remaining-requests": b"998",
        b"x-ratelimit-reset-requests": b"120ms",
        b"x-ratelimit-limit-tokens": b"200000",
        b"x-ratelimit-remaining-tokens": b"199600",
        b"x-ratelimit-reset-tokens": b"1m1s",
        b"retry-after": b"2",
        b"retry-after-ms": b"1234",
    }


def test_what_takes_longer_than_an_sdk_waits_isnt_to_be_tried_again() -> None:
    assert dict(frame_headers(RawFrame({"retry-after-ms": b"60001"}, b"")))[b"x-should-retry"] == b"false"
    assert b"x-should-retry" not in dict(frame_headers(RawFrame({"retry-after-ms": b"60000"}, b"")))
