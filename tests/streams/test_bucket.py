from hypothesis import given
from hypothesis import strategies as st

from streams.bucket import MINUTE_MS, Bucket

TIME = st.integers(0, 10 * MINUTE_MS)
TOKENS = st.integers(1, 2000)


@given(limit=st.integers(1, 1000), tries=st.lists(st.tuples(st.integers(0, 20_000), TOKENS), max_size=40))
def test_never_more_than_the_limit_in_any_stretch_of_time(limit: int, tries: list[tuple[int, int]]) -> None:
    bucket, now, taken = Bucket.full(limit, 0), 0, list[tuple[int, int]]()
    for later, tokens in tries:
        now += later
        bucket = bucket.refilled(limit, now)
        if not bucket.wait_ms(tokens, limit):
            bucket = bucket.taken(tokens)
            taken.append((now, tokens))
    for first, (start, _) in enumerate(taken):
        for last in range(first, len(taken)):
            total = sum(tokens for _, tokens in taken[first : last + 1])
            assert total * MINUTE_MS <= limit * (MINUTE_MS + taken[last][0] - start)


@given(limit=st.integers(1, 1000), taken=TOKENS, wanted=TOKENS, now=TIME)
def test_the_wait_is_true_to_the_millisecond(limit: int, taken: int, wanted: int, now: int) -> None:
    bucket = Bucket.full(limit, 0).taken(min(taken, limit)).refilled(limit, now)
    wanted = min(wanted, limit)
    wait = bucket.wait_ms(wanted, limit)
    assert bucket.refilled(limit, now + wait).wait_ms(wanted, limit) == 0
    if wait:
        assert bucket.refilled(limit, now + wait - 1).wait_ms(wanted, limit) == 1


@given(limit=st.integers(1, 1000), early=TIME, late=TIME)
def test_time_never_runs_backwards(limit: int, early: int, late: int) -> None:
    bucket = Bucket(0, max(early, late))
    assert bucket.refilled(limit, min(early, late)) == bucket


def test_giving_back_never_overflows() -> None:
    assert Bucket.full(10, 0).given(5, 10) == Bucket.full(10, 0)
