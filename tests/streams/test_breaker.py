"""Circuit breakers: a share of failures opens one, a probe closes it."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.workers import Beat, ModelLoad, Outcomes
from streams.policy.breaker import Breaker, Breakers, Limits

LIMITS = Limits(share=0.5, least=10, window_ms=30_000, open_ms=15_000)


def test_few_failures_and_few_requests_open_nothing() -> None:
    breaker = Breaker(LIMITS)
    breaker.count(0, ended=9, failed=9)
    assert not breaker.opened
    breaker.count(40_000, ended=100, failed=49)
    assert not breaker.opened


def test_it_opens_lets_a_probe_through_and_closes() -> None:
    breaker = Breaker(LIMITS)
    breaker.count(1000, ended=5, failed=5)
    breaker.count(2000, ended=5, failed=0)
    assert breaker.opened
    assert breaker.refuses(16_999)
    breaker.count(5000, ended=3, failed=0)  # begun before it opened: no probe
    assert breaker.refuses(16_999)
    assert not breaker.refuses(17_000)
    breaker.probed(17_000)
    assert breaker.refuses(17_001)  # one is enough
    breaker.count(18_000, ended=1, failed=0)
    assert not breaker.opened


def test_a_failed_probe_opens_it_again_and_a_lost_one_is_sent_again() -> None:
    breaker = Breaker(LIMITS)
    breaker.count(0, ended=10, failed=10)
    breaker.probed(15_000)
    breaker.count(16_000, ended=1, failed=1)
    assert breaker.refuses(30_999)
    assert not breaker.refuses(31_000)
    breaker.probed(31_000)
    assert breaker.refuses(45_999)
    assert not breaker.refuses(46_000)


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0, 0.49)), max_size=50))
def test_below_its_share_it_never_opens(counts: list[tuple[int, float]]) -> None:
    breaker = Breaker(LIMITS)
    for number, (ended, share) in enumerate(counts):
        breaker.count(number * 1000, ended, int(ended * share))
    assert not breaker.opened


def beat(worker: str, at: int, ended: int, failed: int) -> Beat:
    load = ModelLoad(model="small", engine="synthetic", room=1, outcomes=Outcomes(ended=ended, failed=failed))
    return Beat(worker=worker, at=at, started_at=0, version="0", models=(load,))


def test_workers_totals_are_counted_once_and_what_was_before_is_past() -> None:
    breakers = Breakers(LIMITS)
    breakers.look([beat("a", 1000, 100, 100)])
    breakers.look([beat("a", 2000, 105, 105), beat("b", 2000, 50, 0)])
    breakers.look([beat("a", 2000, 105, 105), beat("b", 3000, 53, 0)])
    assert not breakers.of("small").opened
    breakers.look([beat("a", 4000, 108, 108), beat("b", 3000, 53, 0)])
    assert breakers.of("small").opened
