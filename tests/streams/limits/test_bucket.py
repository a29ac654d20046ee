from hypothesis import given
from hypothesis import strategies as st

from streams.limits.bucket import MINUTE_MS, empty_ms, leaked, left, taken, wait_ms

TIME = st.integers(0, 10 * MINUTE_MS)
TOKENS = st.integers(1, 2000)


@given(limit=st.integers(1, 1000), tries=st.lists(st.tuples(st.integers(0, 20_000), TOKENS), max_size=40))
def test_never_more_than_the_limit_in_any_stretch_of_time(limit: int, tries: list[tuple[int, int]]) -> None:
    used, now, let_through = 0, 0, list[tuple[int, int]]()
    for later, tokens in tries:
        now += later
        used = leaked(used, limit, later)
        if not wait_ms(used, tokens, limit):
            used = taken(used, tokens)
            let_through.append((now, tokens))
    for first, (start, _) in enumerate(let_through):
        for last in range(first, len(let_through)):
            total = sum(tokens for _, tokens in let_through[first : last + 1])
            assert total * MINUTE_MS <= limit * (MINUTE_MS + let_through[last][0] - start)


@given(limit=st.integers(1, 1000), before=TOKENS, wanted=TOKENS, ms=TIME)
def test_the_wait_is_true_to_the_millisecond(limit: int, before: int, wanted: int, ms: int) -> None:
    used = leaked(taken(0, min(before, limit)), limit, ms)
    wanted = min(wanted, limit)
    wait = wait_ms(used, wanted, limit)
    assert wait_ms(leaked(used, limit, wait), wanted, limit) == 0
    if wait:
        assert wait_ms(leaked(used, limit, wait - 1), wanted, limit) == 1


@given(limit=st.integers(1, 1000), before=TOKENS)
def test_it_is_empty_when_it_says(limit: int, before: int) -> None:
    used = taken(0, before)
    assert leaked(used, limit, empty_ms(used, limit)) == 0
    assert leaked(used, limit, empty_ms(used, limit) - 1) > 0


def test_what_is_left_is_whole_and_never_negative() -> None:
    assert left(taken(0, 3) + 1, 10) == 6
    assert left(taken(0, 30), 10) == 0


def test_giving_back_never_underflows() -> None:
    assert taken(taken(0, 3), -5) == 0
