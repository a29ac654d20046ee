"""The commit position: never past an unfinished record, whatever finishes first and whoever takes the partition."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference.offsets import OffsetTracker


def test_nothing_to_commit_before_the_first_record() -> None:
    assert OffsetTracker().position is None


def test_only_the_contiguous_finished_prefix_is_committed() -> None:
    tracker = OffsetTracker()
    for offset in (5, 6, 7):
        assert tracker.deliver(offset)
    tracker.finish(6)
    assert tracker.position == 5
    tracker.finish(5)
    assert tracker.position == 7
    tracker.finish(7)
    assert tracker.position == 8


def test_gaps_between_offsets_are_passed() -> None:
    tracker = OffsetTracker()
    for offset in (3, 10):
        tracker.deliver(offset)
        tracker.finish(offset)
    assert tracker.position == 11


def test_a_redelivered_record_that_ran_here_is_not_run_again() -> None:
    tracker = OffsetTracker()
    for offset in (0, 1, 2):
        tracker.deliver(offset)
        tracker.start(offset)
    tracker.finish(1)
    tracker.assigned()
    assert [tracker.deliver(offset) for offset in (0, 1, 2, 3)] == [True, False, True, True]
    assert tracker.position == 0
    tracker.finish(0)  # the run of before, while it waits
    assert [tracker.start(offset) for offset in (0, 1, 2)] == [False, False, True]
    assert tracker.position == 2


def test_a_run_that_another_worker_has_meanwhile_committed_does_not_pull_the_position_back() -> None:
    tracker = OffsetTracker()
    tracker.deliver(4)
    tracker.start(4)
    tracker.assigned()
    tracker.deliver(9)  # the others committed up to 9
    tracker.finish(9)
    assert tracker.position == 10
    tracker.finish(4)
    assert tracker.position == 10


def test_what_only_waited_here_comes_again() -> None:
    tracker = OffsetTracker()
    tracker.deliver(4)
    tracker.assigned()
    assert tracker.deliver(4)
    assert (tracker.position, tracker.begun) == (4, 0)
    tracker.start(4)
    assert tracker.begun == 5


def test_what_finished_long_ago_does_not_start() -> None:
    tracker = OffsetTracker()
    tracker.deliver(7)
    tracker.finish(7)
    tracker.committed(8)
    assert not tracker.start(7)


def test_what_others_have_finished_is_passed() -> None:
    tracker = OffsetTracker()
    tracker.assigned()
    assert [tracker.deliver(offset) for offset in (5, 6)] == [True, True]
    tracker.pass_over([6, 7, 9])
    assert not tracker.start(6)
    assert [tracker.deliver(offset) for offset in (7, 8, 9)] == [False, True, False]
    tracker.finish(5)
    assert tracker.position == 8
    tracker.finish(8)
    assert tracker.position == 10


def test_what_an_operator_rewinds_runs_again_once_it_was_committed() -> None:
    tracker = OffsetTracker()
    tracker.deliver(0)
    tracker.finish(0)
    tracker.committed(1)
    tracker.assigned()
    assert tracker.deliver(0)


@given(st.lists(st.integers(0, 200), unique=True, min_size=1).map(sorted), st.randoms())
def test_in_any_order_of_finishing_the_end_is_reached(offsets: list[int], random: object) -> None:
    tracker = OffsetTracker()
    for offset in offsets:
        tracker.deliver(offset)
    order = list(offsets)
    random.shuffle(order)  # type: ignore[attr-defined]
    positions: list[int] = []
    for offset in order:
        tracker.finish(offset)
        positions.append(tracker.position or 0)
    assert positions == sorted(positions)
    assert positions[-1] == offsets[-1] + 1


class TwoWorkers(RuleBasedStateMachine):
    """One partition that moves between this worker and another, which finishes what it gets at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.ours = True
        self.tracker.assigned()
        self.cursor = 0  # next offset to be delivered to the owner
        self.committed = 0
        self.answered: set[int] = set()
        self.waiting: set[int] = set()
        self.running: set[int] = set()

    @precondition(lambda self: self.ours)
    @rule()
    def deliver(self) -> None:
        if self.tracker.deliver(self.cursor):
            self.waiting.add(self.cursor)
        self.cursor += 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.remove(offset)
        if self.tracker.start(offset):
            self.running.add(offset)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(offset)
        self.answered.add(offset)
        self.tracker.finish(offset)

    @precondition(lambda self: self.ours)
    @rule()
    def commit(self) -> None:
        if (position := self.tracker.position) is not None:
            assert position >= self.committed
            self.committed = position
            self.tracker.committed(position)

    @rule(steps=st.integers(0, 4), commits=st.booleans())
    def lose_and_regain(self, steps: int, commits: bool) -> None:
        """The partition goes to the other worker, which goes on from the commit, and comes back."""
        self.answered |= set(range(self.committed, self.committed + steps))
        self.committed += steps if commits else 0
        self.cursor = self.committed
        self.waiting.clear()
        self.tracker.assigned()

    @invariant()
    def nothing_unanswered_is_committed(self) -> None:
        assert set(range(self.committed)) <= self.answered


TestTwoWorkers = TwoWorkers.TestCase
