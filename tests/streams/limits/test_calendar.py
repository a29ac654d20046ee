from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streams.limits.calendar import day_ends, day_of, month_ends, month_of

TIMES = st.integers(0, 4_102_444_800_000)  # to 2100


def date(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


@given(at=TIMES)
def test_a_day_ends_at_midnight(at: int) -> None:
    end = day_ends(at)
    assert at < end <= at + 86_400_000
    assert date(end).time() == datetime.min.time()
    assert day_of(end - 1) == day_of(at) == day_of(end) - 1


@given(at=TIMES)
def test_a_month_ends_at_the_first_midnight_of_the_next(at: int) -> None:
    end = month_ends(at)
    assert (date(end).day, date(end).time()) == (1, datetime.min.time())
    assert month_of(end - 1) == month_of(at) == month_of(end) - 1
    assert (date(end - 1).year, date(end - 1).month) == (date(at).year, date(at).month)
