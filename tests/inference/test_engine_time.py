"""Whatever runs beside whatever: the parts of an engine's time add up to it, to the microsecond and the nano-dollar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine import Finish, Step
from inference.engine_time import EngineMeter, Seat, Share, Stretch

SECOND = 1_000_000
HOUR_NANO = 3_600_000_000  # what the GPUs cost an hour: a nano-dollar each microsecond


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def tokens(count: int, *, fresh: int | None = None, finish: Finish | None = None) -> Step:
    return Step("", count, finish, fresh_tokens=fresh)


def ended(prompt: int, completion: int, cached: int = 0) -> Finish:
    return Finish("stop", prompt, completion, cached)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> EngineMeter:
    return EngineMeter(HOUR_NANO, clock)


def test_one_alone_pays_for_all_its_time_and_nobody_for_idle_time(clock: Clock, meter: EngineMeter) -> None:
    clock.now += 3 * SECOND
    seat = meter.enter(10)
    clock.now += 2 * SECOND
    meter.add(seat, tokens(5, finish=ended(10, 5)))
    share = meter.leave(seat)
    clock.now += SECOND
    cut = meter.cut()
    assert share == Share(2 * SECOND, 2 * SECOND)
    assert (cut.wall_us, cut.idle_us, cut.shared_us, cut.under_way_us) == (6 * SECOND, 4 * SECOND, 2 * SECOND, 0)
    assert cut.idle_nano + cut.shared_nano == 6 * SECOND
    assert (cut.requests, cut.prompt_tokens, cut.completion_tokens, cut.most_running) == (1, 10, 5, 1)


def test_time_is_shared_by_tokens_and_cached_ones_cost_nothing(clock: Clock, meter: EngineMeter) -> None:
    first, second = meter.enter(900), meter.enter(900)
    clock.now += 900_000
    meter.add(first, tokens(100, fresh=500))
    meter.add(second, tokens(100, fresh=100))
    clock.now += 100_000
    assert meter.cut().under_way_us == SECOND
    meter.add(first, tokens(0, finish=ended(500, 100)))
    meter.add(second, tokens(0, finish=ended(500, 100, cached=400)))
    assert [meter.leave(first).engine_us, meter.leave(second).engine_us] == [750_000, 250_000]


def test_who_leaves_in_between_takes_its_part_and_the_last_one_the_rest(clock: Clock, meter: EngineMeter) -> None:
    first, second = meter.enter(0), meter.enter(0)
    clock.now += 400_001
    meter.add(first, tokens(30, fresh=0))
    meter.add(second, tokens(10, fresh=0))
    assert meter.leave(first).engine_us == 300_000
    clock.now += 100_000
    assert meter.leave(second).engine_us == 200_001


def test_an_engine_that_tells_nothing_before_the_end_is_guessed_by_its_pace(clock: Clock, meter: EngineMeter) -> None:
    for _ in range(60):  # teaches: 100 tokens take a second
        seat = meter.enter(100)
        clock.now += SECOND
        meter.add(seat, tokens(100, finish=ended(100, 100)))
        meter.leave(seat)
    first, second = meter.enter(100), meter.enter(100)
    clock.now += 4 * SECOND
    meter.add(first, tokens(400, finish=ended(100, 400)))
    shares = [meter.leave(first).engine_us]
    meter.add(second, tokens(400, finish=ended(100, 400)))
    shares.append(meter.leave(second).engine_us)
    assert sum(shares) == 4 * SECOND
    assert shares == pytest.approx([2 * SECOND, 2 * SECOND], rel=0.05)


def test_of_requests_without_any_token_each_pays_the_same(clock: Clock, meter: EngineMeter) -> None:
    first, second = meter.enter(5), meter.enter(5)
    clock.now += 100_001
    assert [meter.leave(first).engine_us, meter.leave(second).engine_us] == [50_000, 50_001]


def test_a_stretch_says_how_large_the_batch_was(clock: Clock, meter: EngineMeter) -> None:
    clock.now += SECOND
    seats = [meter.enter(1) for _ in range(3)]
    clock.now += SECOND
    meter.leave(seats[0])
    clock.now += SECOND
    cut = meter.cut()
    assert (cut.seat_us, cut.most_running) == (5 * SECOND, 3)
    assert meter.cut().most_running == 2


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "step", "finish", "leave", "cut"]), st.integers(0, 3 * SECOND), st.integers(0, 999)
    ),
    max_size=80,
)


@given(events=EVENTS, rate=st.integers(0, 10**12))
def test_the_parts_add_up_to_the_whole(events: list[tuple[str, int, int]], rate: int) -> None:
    clock = Clock()
    meter = EngineMeter(rate, clock)
    running: list[Seat] = []
    shares: list[Share] = []
    cuts: list[Stretch] = []
    for what, passed, number in events:
        clock.now += passed
        if what == "enter":
            running.append(meter.enter(number))
        elif what == "cut":
            cuts.append(meter.cut())
        elif running:
            seat = running[number % len(running)]
            if what == "step":
                meter.add(seat, tokens(number % 7, fresh=None if number % 3 else number))
            elif what == "finish":
                meter.add(seat, tokens(number % 5, finish=ended(number, seat.told, number // 2)))
            else:
                running.remove(seat)
                shares.append(meter.leave(seat))
    cuts.append(meter.cut())
    assert all(share.engine_us >= 0 and share.gpu_nano >= 0 for share in shares)
    before = 0
    for cut in cuts:
        assert cut.wall_us == cut.idle_us + cut.shared_us + cut.under_way_us - before
        before = cut.under_way_us
    assert sum(cut.wall_us for cut in cuts) == clock.now
    assert sum(cut.shared_us for cut in cuts) == sum(share.engine_us for share in shares)
    assert sum(cut.shared_nano for cut in cuts) == sum(share.gpu_nano for share in shares)
    priced = sum(cut.idle_nano + cut.shared_nano for cut in cuts)
    assert priced == (clock.now - before) * rate // 3_600_000_000
