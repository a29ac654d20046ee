"""The limit against an exact count of the same window."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.poison_limit import PoisonLimit


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 12), st.floats(0.05, 0.95))
def test_it_trips_exactly_when_the_window_is_full_and_has_more_than_the_share(
    records: list[bool], window: int, share: float
) -> None:
    limit = PoisonLimit(share, window)
    for number, poison in enumerate(records, 1):
        last = records[max(number - window, 0) : number]
        assert limit.count(poison=poison) == (len(last) == window and sum(last) > share * window)


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 30), st.integers(1, 12))
def test_many_good_ones_at_once_count_like_each_alone(records: list[bool], count: int, window: int) -> None:
    at_once, alone = PoisonLimit(0.4, window), PoisonLimit(0.4, window)
    for limit in (at_once, alone):
        for poison in records:
            limit.count(poison=poison)
    at_once.good(count)
    for _ in range(count):
        alone.count(poison=False)
    assert [at_once.count(poison=True) for _ in range(window)] == [alone.count(poison=True) for _ in range(window)]
