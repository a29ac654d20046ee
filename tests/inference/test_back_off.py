"""How long the openai engine waits before it asks its upstream again."""

import pytest
from tenacity import RetryCallState, Retrying

from inference.engines.openai_errors import TryAgain, wait_before_retry

FIRST_SECONDS, MOST_SECONDS = 0.25, 20.0


def waits(attempt: int, error: Exception, draws: int = 300) -> list[float]:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    state.set_exception((type(error), error, None))
    return [wait_before_retry(state) for _ in range(draws)]


@pytest.mark.parametrize("attempt", [1, 2, 3, 4, 20])
def test_it_grows_and_no_two_callers_wait_alike(attempt: int) -> None:
    most = min(FIRST_SECONDS * 2 ** (attempt - 1), MOST_SECONDS)
    drawn = waits(attempt, TryAgain("It failed."))
    assert all(0 <= wait <= most for wait in drawn)
    assert max(drawn) > most / 2
    assert len(set(drawn)) > 250


def test_what_the_upstream_says_goes_before() -> None:
    assert set(waits(3, TryAgain("It is full.", retry_after=1.5))) == {1.5}
