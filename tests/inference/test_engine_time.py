"""Shares of an engine's time add up to the time it was busy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine_time import SharedClock


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_job_alone_pays_for_all_and_two_share() -> None:
    clock = Clock()
    shared = SharedClock(clock)
    first = shared.enter()
    clock.now += 1
    second = shared.enter()
    clock.now += 1
    assert shared.leave(second) == 500_000
    clock.now += 1
    assert shared.leave(first) == 2_500_000


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=40))
def test_the_shares_add_up_to_the_busy_time(events: list[tuple[bool, float]]) -> None:
    clock = Clock()
    shared = SharedClock(clock)
    running: list[float] = []
    busy, charged = 0.0, 0
    for enters, seconds in [*events, *[(False, 1.0)] * len(events)]:
        if enters:
            running.append(shared.enter())
        elif running:
            charged += shared.leave(running.pop(0))
        busy += seconds if running else 0
        clock.now += seconds
    assert charged == pytest.approx(busy * 1e6, abs=2 * len(events) + 1)
