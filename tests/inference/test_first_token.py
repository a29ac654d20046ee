"""The estimate of how long a first token takes."""

from inference.first_token import FirstTokenTime


def test_nothing_is_known_at_first() -> None:
    assert FirstTokenTime().likely_most_ms == 0


def test_it_comes_to_what_it_sees_and_a_margin_for_what_varies() -> None:
    steady, varying = FirstTokenTime(), FirstTokenTime()
    for number in range(300):
        steady.add(100)
        varying.add(50 + 100 * (number % 2))
    assert 99 < steady.likely_most_ms < 102
    assert 180 < varying.likely_most_ms < 220


def test_it_forgets_a_slow_time() -> None:
    time = FirstTokenTime()
    for _ in range(100):
        time.add(5000)
    for _ in range(200):
        time.add(20)
    assert time.likely_most_ms < 120
