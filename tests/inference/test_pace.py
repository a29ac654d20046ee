"""How fast an engine is, as its requests' times tell."""

import pytest
from aiokafka import TopicPartition

from inference.claims import Place
from inference.pace import Pace
from inference.speed import Rate


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def place(number: int) -> Place:
    return Place(TopicPartition("work", 0), number)


def run(pace: Pace, clock: Clock, count: int, seconds: float, tokens: int = 100) -> None:
    for number in range(count):
        pace.start(place(number), "interactive", tokens)
    clock.now += seconds
    for number in range(count):
        pace.end(place(number))


def test_nothing_is_known_before_anything_ran() -> None:
    pace = Pace(4, Clock())
    assert pace.seconds_per_token("interactive") is None
    assert pace.frees_ms("interactive", 4) == (0, 0, 0, 0)


def test_a_full_engine_tells_more_than_a_calm_one() -> None:
    clock = Clock()
    pace = Pace(4, clock)
    run(pace, clock, 1, 1.0)
    assert pace.seconds_per_token("interactive") == 0.01
    run(pace, clock, 4, 2.0)
    run(pace, clock, 1, 1.0)
    assert pace.seconds_per_token("interactive") == 0.02
    assert pace.seconds_per_token("batch") == 0.02  # until its own is known


def test_places_become_free_when_those_that_run_should_end() -> None:
    clock = Clock()
    pace = Pace(4, clock)
    run(pace, clock, 4, 1.0)
    pace.start(place(1), "interactive", 200)
    clock.now += 0.5
    pace.start(place(2), "interactive", 100)
    clock.now += 0.25
    assert pace.frees_ms("interactive", 4) == (0, 0, 750, 1250)
    pace.drop(place(2))
    assert pace.frees_ms("interactive", 1) == (1250,)


def test_many_places_are_told_as_quantiles() -> None:
    clock = Clock()
    pace = Pace(64, clock)
    run(pace, clock, 64, 1.0)
    for number in range(64):
        pace.start(place(number), "interactive", number + 1)
    told = pace.frees_ms("interactive", 64)
    assert len(told) == 17
    assert (told[0], told[-1]) == (10, 640)
    assert sorted(told) == list(told)


def test_who_runs_longer_than_expected_is_judged_by_others_that_did() -> None:
    """Half of the requests take twice what the other half does, and nobody knows which."""
    clock = Clock()
    pace = Pace(4, clock)
    for _ in range(8):
        for number in range(4):
            pace.start(place(number), "interactive", 100)
        clock.now += 1.0
        pace.end(place(0)), pace.end(place(1))
        clock.now += 1.0
        pace.end(place(2)), pace.end(place(3))
    assert pace.spread("interactive")[0] == pytest.approx(2 / 3, abs=0.1)
    assert pace.spread("interactive")[-1] == pytest.approx(4 / 3, abs=0.1)
    for number in range(4):
        pace.start(place(number), "interactive", 100)
    assert pace.frees_ms("interactive", 4) == (1000, 1000, 2000, 2000)
    clock.now += 1.5
    assert pace.frees_ms("interactive", 4) == (500, 500, 500, 500)
    clock.now += 1.0
    assert pace.frees_ms("interactive", 4) == (0, 0, 0, 0)


def test_a_rate_is_smoothed_and_fades() -> None:
    clock = Clock()
    rate = Rate(clock)
    for _ in range(60):
        rate.add(100)
        clock.now += 1
        rate.look()
    assert 99 < rate.look() < 101
    clock.now += 30
    assert rate.look() < 6
